"""What the emulated tenant has published: blobs of a few records, and every text of each record."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from uuid import UUID

CONTENT_TYPES = (
    "Audit.AzureActiveDirectory",
    "Audit.Exchange",
    "Audit.SharePoint",
    "Audit.General",
    "DLP.All",
)
_WORKLOADS = ("AzureActiveDirectory", "Exchange", "OneDrive", "Yammer", "Endpoint")
_RECORD_TYPES = (15, 50, 6, 22, 63)
_BLOBS = 36
_STEP = timedelta(hours=4, minutes=1, seconds=13, milliseconds=507)
_SPAN = timedelta(hours=3)

Texts = dict[tuple[object, ...], set[bytes]]


class Form(Enum):
    """How a body is written and carried."""

    PLAIN = auto()
    PRETTY = auto()
    BOM = auto()
    GZIP = auto()
    IDENTITY = auto()
    CHUNKED = auto()
    OCTETS = auto()


@dataclass(frozen=True, slots=True)
class Blob:
    """One piece of content."""

    content_id: str
    content_type: str
    created_at: datetime
    decimals: str
    """Those of contentCreated that a datetime cannot hold."""
    records: tuple[str, ...]
    form: Form
    spans: bool
    """Whether its rows lie apart in time, so that a window can start inside it."""
    late: bool = False
    """Whether it comes out after the first look."""

    @property
    def created(self) -> str:
        return f"{self.created_at:%Y-%m-%dT%H:%M:%S.%f}{self.decimals}Z"

    def body(self) -> bytes:
        """The array as it is sent, before any content encoding."""
        gap = "\r\n  " if self.form is Form.PRETTY else ""
        text = f"[{gap}{f',{gap}'.join(self.records)}{gap.rstrip(' ')}]"
        return b"\xef\xbb\xbf" * (self.form is Form.BOM) + text.encode()

    def packed(self) -> bytes:
        return gzip.compress(self.body()) if self.form is Form.GZIP else self.body()

    def texts(self) -> list[bytes]:
        """Each record on one line."""
        return [record.replace("\r", " ").replace("\n", " ").encode() for record in self.records]

    def row_at(self, place: int) -> datetime:
        return self.created_at + _SPAN * place / len(self.records)

    def rest(self, start: datetime) -> Blob | None:
        """What a window that starts inside the blob names of it: fewer records, another id."""
        if not self.spans or start <= self.created_at:
            return None
        kept = [place for place in range(len(self.records)) if self.row_at(place) >= start]
        if not kept:
            return None
        return Blob(
            content_id=f"{self.content_id}.from{kept[0]}",
            content_type=self.content_type,
            created_at=self.row_at(kept[0]),
            decimals="0",
            records=self.records[kept[0] :],
            form=self.form,
            spans=False,
            late=self.late,
        )


@dataclass(slots=True)
class Store:
    """All content of one tenant, and what a collector has to end up with."""

    blobs: list[Blob]
    texts: Texts = field(default_factory=dict)
    """By identity: every text in which a record is served."""
    without_id: Counter[bytes] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for blob in self.blobs:
            for text in blob.texts():
                name = _identity(text)
                if name is None:
                    self.without_id[text] += 1
                else:
                    self.texts.setdefault(name, set()).add(text)

    @property
    def record_count(self) -> int:
        return len(self.texts) + self.without_id.total()

    def faults_in(self, delivered: Iterable[bytes]) -> dict[str, int]:
        """How many delivered records are missing, duplicates, or altered."""
        names: Counter[tuple[object, ...]] = Counter()
        loose: Counter[bytes] = Counter()
        altered = 0
        for text in delivered:
            name = _identity(text)
            if name is None and text in self.without_id:
                loose[text] += 1
            elif name is None or text not in self.texts.get(name, ()):
                altered += 1
            else:
                names[name] += 1
        missing = len(self.texts.keys() - names.keys()) + (self.without_id - loose).total()
        duplicates = names.total() - len(names) + (loose - self.without_id).total()
        return {"missing": missing, "duplicates": duplicates, "altered": altered}


def make_store(*, seed: int, now: datetime) -> Store:
    """A week of content up to `now`, always the same for a seed."""
    chance = random.Random(seed)
    blobs = []
    for kind in range(len(CONTENT_TYPES)):
        earlier: list[str] = []
        for number in range(_BLOBS):
            blob = _make_blob(kind, number, now=now, chance=chance, earlier=earlier)
            earlier += [record for record in blob.records if '"Id"' in record]
            blobs.append(blob)
    return Store(blobs)


def _make_blob(kind: int, number: int, *, now: datetime, chance: random.Random, earlier: list[str]) -> Blob:
    created_at = now - timedelta(minutes=3) - number * _STEP
    form = list(Form)[(kind + number) % len(Form)]
    spans = number % 3 == 0
    documents = [_make_document(kind, created_at, chance) for _ in range(chance.randint(1, 12))]
    if not spans and number % 4 == 1:
        documents[0].pop("Id")
    records = [_written(document, form) for document in documents]
    if earlier and number % 2:
        again = json.loads(chance.choice(earlier))
        records.append(_written(dict(reversed(again.items())), form))
    if number % 5 == 2 and '"Id"' in records[-1]:
        records.append(records[-1])
    return Blob(
        content_id=_content_id(kind, number, created_at, chance),
        content_type=CONTENT_TYPES[kind],
        created_at=created_at,
        decimals=str(number % 10),
        records=tuple(records),
        form=form,
        spans=spans,
        late=number == 0,
    )


def _make_document(kind: int, created_at: datetime, chance: random.Random) -> dict[str, object]:
    happened_at = created_at - timedelta(seconds=chance.randint(60, 40_000))
    return {
        "Workload": _WORKLOADS[kind],
        "Id": str(UUID(int=chance.getrandbits(128), version=4)),
        "CreationTime": f"{happened_at:%Y-%m-%dT%H:%M:%S}",
        "RecordType": _RECORD_TYPES[kind],
        "Operation": chance.choice(["Add member to role.", "Send", "FileAccessed", "DlpRuleMatch"]),
        "UserType": 0,
        "UserId": f"p{chance.randint(1, 30)}@fabrikam.example",
        "ClientIP": f"[2001:db8::{chance.randint(1, 9)}]:{chance.randint(1024, 65535)}",
        "Note": chance.choice(["żółw \\ 蛇", 'she said "no"', "tab\tand\nline", "", "[]{},:"]),
        "Parts": [{"Name": "depth", "Value": chance.random()}, None, True],
    }


def _written(document: dict[str, object], form: Form) -> str:
    if form is Form.PRETTY:
        return json.dumps(document, indent=2, ensure_ascii=False).replace("\n", "\r\n")
    return json.dumps(document, ensure_ascii=form is Form.PLAIN)


def _content_id(kind: int, number: int, created_at: datetime, chance: random.Random) -> str:
    """Three shapes: that of 2015, today's with an odd partition, and one without any `$`."""
    if number % 3 == 0:
        first, second = f"{chance.getrandbits(128):032x}", f"{chance.getrandbits(128):032x}"
        return f"49263800{kind}{number:03}$49263800{kind}{number:03}${first}spo2015043022${second}$04"
    if number % 3 == 1:
        stamp = f"{created_at:%Y%m%d%H%M%S}{chance.randrange(10**9):09}"
        name = CONTENT_TYPES[kind].replace(".", "_")
        return f"{stamp}${stamp}${name.lower()}${name}$na0030$na0030"
    return f"content-{kind}~{number:03}.{chance.getrandbits(32):08x}"


def _identity(text: bytes) -> tuple[object, ...] | None:
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    if "Id" not in fields:
        return None
    return tuple(fields[name] for name in ("Id", "CreationTime", "Operation", "RecordType"))
