"""One collector's place on disk: its configuration, its state, and what its outputs hold."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import zstandard
from deltalake import DeltaTable

from m365watch.common.clock import Clock, SystemClock, system_random
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings
from m365watch.lake.delta.table_files import silently
from m365watch.lake.erasure.erasure_journal import Asked
from m365watch.lake.erasure.person_matching import Person
from m365watch.lake.erasure.record_erasure import Erasure
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.runtime.collector import Collector

FILES = {"type": "files", "config": {"directory": "out"}}
LAKE = {"type": "lake", "config": {"directory": "lake"}}
BOTH: Mapping[str, Any] = {"files": FILES, "lake": LAKE}


class Place:
    """A folder that a collector works in, from run to run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def settings(self, document: Mapping[str, Any]) -> Settings:
        """The settings in `document`, as if it stood in a file here."""
        return parse_settings(document, path=self.folder / "m365watch.json", environment={})

    def collector(self, document: Mapping[str, Any], clock: Clock) -> Collector:
        return Collector(self.settings(document), clock=clock, random=system_random(1))

    def holdings(self) -> dict[str, list[bytes]]:
        """The records that each output holds, by its name."""
        found = {}
        if (self.folder / "out").exists():
            found["files"] = records_in_files(self.folder / "out")
        if (self.folder / "lake").exists():
            found["lake"] = records_in_lake(self.folder / "lake")
        return found

    def quarantined(self) -> list[bytes]:
        """What the ledger keeps of what could not go on."""
        ledger = sqlite3.connect(self.folder / "state" / LEDGER_FILE)
        try:
            return [body for (body,) in ledger.execute("SELECT body FROM quarantine")]
        finally:
            ledger.close()


def erase_first_person(lake: Path, records: Iterable[bytes]) -> set[bytes]:
    """Erase from the lake what is of whoever acted most in `records`; what went."""
    actors = Counter(json.loads(record).get("UserId") or "" for record in records)
    name = next(name for name, _ in actors.most_common() if "@" in name)
    before = set(records_in_lake(lake))
    wanted = Asked(names=Person([name]).names)
    erasure = Erasure(lake, wanted, clock=SystemClock(), progress=silently)
    assert erasure.run().verified.is_clean
    erasure.close()
    return before - set(records_in_lake(lake))


def records_in_files(directory: Path) -> list[bytes]:
    """The lines under published names; a last one that is no whole line comes too, and fails."""
    return [
        line
        for path in sorted(directory.rglob("*.ndjson*"))
        for line in _inflated(path).removesuffix(b"\n").split(b"\n")
    ]


def _inflated(path: Path) -> bytes:
    packed = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(packed)
    if path.suffix == ".zst":
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
            return reader.read()
    return packed


def records_in_lake(directory: Path) -> list[bytes]:
    """The verbatim records of the table `audit`; none before the first batch."""
    if not DeltaTable.is_deltatable(str(directory / "audit")):
        return []
    raws = DeltaTable(str(directory / "audit")).to_pyarrow_table(columns=["raw"])["raw"]
    return [raw.encode() if isinstance(raw, str) else raw for raw in raws.to_pylist()]


def assert_discreet(text: str, *, secrets: Iterable[str], records: Iterable[bytes]) -> None:
    """Nothing that was said holds a secret, a token, or the body of a record."""
    assert not [secret for secret in secrets if secret in text]
    assert "eyJ" not in text
    assert '"CreationTime"' not in text
    assert not [record for record in records if record[:60].decode("utf-8", "replace") in text]
