"""The house's parts alone, in one process: how many records a second one core puts through each."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.outcome import Line, Outcome
from benchmarks.service import BLOB_RECORDS, StampedRecords
from m365watch.common.clock import SystemClock, thread_cpu_s
from m365watch.common.model import Batch, BatchPart, BlobKey, ContentType, Feed, Receipt, TenantId, Window
from m365watch.config.models.inputs import MaskSection
from m365watch.ledger.bloom_filter import FilterSizes
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.outputs.files.files_output import FilesOutput
from m365watch.outputs.files.spec import FilesConfig, FilesSection
from m365watch.outputs.lake.lake_output import LakeOutput
from m365watch.pipeline.batcher import BATCH_BYTES
from m365watch.records.identity import IDENTITY_BYTES, IdentityMaker
from m365watch.records.masking import Masker
from m365watch.records.routing import Router
from m365watch.records.split import split_blob
from m365watch.registry.outputs import Output

RECORDS = 100_000
IDS = (300_000, 3_000_000)
_BATCH_IDS = 6_000
_MINUTES = 7 * 24 * 60
_LATE_SHARE = 0.1
_MORE_IDS = 100_000
_MASKS = {
    "a mask that no record needs": MaskSection(name=("NoSuchKey",)),
    "a mask in every record": MaskSection(name=("UserId",)),
    "a pattern in every record": MaskSection(name=("UserId",), string_patterns=(r"^[^@]+",)),
}
_OUTPUT = "measured"
_TENANT = TenantId("3f2504e0-4f89-41d3-9a0c-0305e82c3301")


@dataclass(frozen=True, slots=True)
class PartFigure:
    """What one part can do."""

    part: str
    records: int
    cpu_s: float
    """Of all its threads."""
    wall_s: float

    @property
    def per_core(self) -> float:
        """Records a second of CPU time."""
        return self.records / self.cpu_s

    @property
    def cpu_us(self) -> float:
        """CPU microseconds a record."""
        return self.cpu_s * 1e6 / self.records


def measure_parts(*, records: int = RECORDS, ids: tuple[int, ...] = IDS) -> Iterator[PartFigure]:
    """A figure for each part, as soon as it is known."""
    blobs = _make_blobs(records)
    yield _measure("split, identities, tables", records, partial(_take_apart, blobs, wide=False))
    yield _measure("the same with the lake's fields", records, partial(_take_apart, blobs, wide=True))
    for part, mask in _MASKS.items():
        yield _measure(part, records, partial(_mask, blobs, mask))
    for count, late in itertools.product(ids, (0.0, _LATE_SHARE)):
        part = f"ledger with {count:,} ids, " + (f"{late:.0%} of them late" if late else "in order")
        with _folder() as folder:
            yield _measure(part, count, partial(_remember, folder, count, late))
            if not late:
                yield from _measure_more(folder, count)
    batches = _make_batches(blobs)
    for name, output in (("files", _files), ("lake", _lake)):
        with _folder() as folder:
            yield _measure(f"{name}.deliver", records, partial(_deliver_all, output(folder), batches))


def show_parts(*, records: int, ids: tuple[int, ...], console: Console) -> Outcome:
    """Every part alone."""
    figures = list(measure_parts(records=records, ids=ids))
    table = Table(box=MARKDOWN, title="Parts alone", title_justify="left")
    table.add_column("part")
    for column in ("records", "records/s of a core", "CPU µs a record", "wall s"):
        table.add_column(column, justify="right")
    for one in figures:
        table.add_row(
            one.part,
            f"{one.records:,}",
            f"{one.per_core:,.0f}",
            f"{one.cpu_us:.2f}",
            f"{one.wall_s:.2f}",
        )
    console.print(table)
    lines = [Line(one.part, f"{one.per_core:,.0f} records/s a core", cpu_us=one.cpu_us) for one in figures]
    return Outcome(tuple(lines), passed=True, report={"parts": [asdict(one) for one in figures]})


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="m365watch-bench-") as name:
        yield Path(name)


def _measure(part: str, records: int, work: Callable[[], None]) -> PartFigure:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    work()
    return PartFigure(part, records, time.process_time() - cpu_s, time.perf_counter() - wall_s)


def _make_blobs(records: int) -> list[bytes]:
    now = SystemClock().now()
    source = StampedRecords(records, started_at=now, tenant_id=_TENANT)
    made = source.records_between(now - timedelta(days=7), now)
    made.sort(key=lambda record: (record.content_type, record.happened_at))
    bodies = [record.body for record in made]
    starts = range(0, len(bodies), BLOB_RECORDS)
    return [b"[" + b",".join(bodies[start : start + BLOB_RECORDS]) + b"]" for start in starts]


def _take_apart(blobs: list[bytes], *, wide: bool) -> None:
    router, identities = Router(), IdentityMaker(1)
    for body in blobs:
        split = split_blob(body, wide=wide)
        router.tables(split.headers, override_tag=None)
        identities.identities(_TENANT, split.headers)


def _mask(blobs: list[bytes], mask: MaskSection) -> None:
    """Split and mask; the difference to splitting alone is what the mask costs."""
    masker = Masker([mask], spent_s=thread_cpu_s)
    for body in blobs:
        masker.mask(split_blob(body, wide=True), wide=True)


def _make_batches(blobs: list[bytes]) -> list[Batch]:
    """The blobs as the pipeline puts them together."""
    router, now = Router(), SystemClock().now()
    batches: list[Batch] = []
    parts: list[BatchPart] = []
    for number, body in enumerate(blobs, start=1):
        split = split_blob(body, wide=True)
        feed = Feed(_TENANT, ContentType.GENERAL)
        tables = router.tables(split.headers, override_tag=None)
        parts.append(
            BatchPart(BlobKey(number), feed, now, split.records, split.headers, tables, frozenset({_OUTPUT}))
        )
        batch = Batch(len(batches) + 1, parts)
        if batch.size_bytes >= BATCH_BYTES or number == len(blobs):
            batches.append(batch)
            parts = []
    return batches


def write_into_lake(blobs: Sequence[bytes]) -> int:
    """Take blobs apart and write them into a lake; how many records there were."""
    batches = _make_batches(list(blobs))
    with _folder() as folder:
        _deliver_all(_lake(folder), batches)
    return sum(len(part.records) for batch in batches for part in batch.parts)


def _deliver_all(output: Output, batches: list[Batch]) -> None:
    asyncio.run(_deliver(output, batches))


async def _deliver(output: Output, batches: list[Batch]) -> None:
    await output.open(last_batch=0, position="")
    for batch in batches:
        await output.deliver(batch)
    await output.close()


def _files(folder: Path) -> Output:
    config = FilesConfig(directory=folder / "out", rotate_megabytes=134)
    settings = FilesSection(type="files", config=config).named(_OUTPUT)
    return FilesOutput(settings, clock=SystemClock())


def _lake(folder: Path) -> Output:
    return LakeOutput(_OUTPUT, folder / "out", writer_id="measured", clock=SystemClock())


def _measure_more(folder: Path, count: int) -> Iterator[PartFigure]:
    """New identities from anywhere in the week, in a ledger opened again without and with filter."""
    now = SystemClock().now()
    feed, outputs = Feed(_TENANT, ContentType.GENERAL), frozenset({_OUTPUT})
    for sizes in (None, FilterSizes(count, None)):
        with closing(SqliteLedger(folder, outputs=outputs, now=now, front_filter=sizes)) as ledger:
            ledger.settle_outputs({}, queued={}, at=now)
            while ledger.merge_identities():
                pass
            seed = 1 if sizes is None else 2
            batches = list(_identity_batches(_MORE_IDS, 1.0, feed=feed, now=now, seed=seed))
            part = f"{_MORE_IDS:,} old ids more, {'no filter' if sizes is None else 'with the filter'}"
            yield _measure(part, _MORE_IDS, partial(_open_all, ledger, batches))


def _open_all(ledger: SqliteLedger, batches: list[list[BatchPart]]) -> None:
    for parts in batches:
        ledger.open_batch(parts, frozenset({_OUTPUT}))


def _remember(folder: Path, count: int, late_share: float) -> None:
    """Find `count` new identities in a ledger, commit them, and merge them as upkeep does."""
    now = SystemClock().now()
    outputs = frozenset({_OUTPUT})
    feed = Feed(_TENANT, ContentType.GENERAL)
    with closing(SqliteLedger(folder, outputs=outputs, now=now)) as ledger:
        ledger.commit_listing(feed, Window(now - timedelta(hours=1), now), [], complete=True, at=now)
        for parts in _identity_batches(count, late_share, feed=feed, now=now):
            opened = ledger.open_batch(parts, outputs)
            ledger.commit_delivered(opened.number, _OUTPUT, Receipt(), at=now)
            while ledger.merge_identities():
                pass


def _identity_batches(
    count: int, late_share: float, *, feed: Feed, now: datetime, seed: int = 0
) -> Iterator[list[BatchPart]]:
    """Parts of batches with `count` identities in all, spread over the minutes of a week."""
    dice = random.Random(count + seed)
    blob = 0
    for first in range(0, count, _BATCH_IDS):
        parts = []
        for start in range(first, min(first + _BATCH_IDS, count), BLOB_RECORDS):
            blob += 1
            minute = start * _MINUTES // count
            identities: list[bytes | None] = [
                (dice.randrange(minute + 1) if dice.random() < late_share else minute).to_bytes(4, "big")
                + dice.randbytes(IDENTITY_BYTES - 4)
                for _ in range(BLOB_RECORDS)
            ]
            empty = [b""] * BLOB_RECORDS
            parts.append(
                BatchPart(
                    BlobKey(blob), feed, now, empty, [], [], frozenset({_OUTPUT}), identities=identities
                )
            )
        yield parts
