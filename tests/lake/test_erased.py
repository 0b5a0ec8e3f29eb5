"""Marks of what was erased: they tell that a record was, and nothing of whose it was."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from promises import guarantee

from keeping_lake import (
    ANNA,
    APP_ID,
    TODAY,
    FixedClock,
    Retention,
    a_record,
    field_of,
    fill_days,
    write,
)
from lake_place import WRITER_ID, records_of
from m365watch.common.model import TenantId
from m365watch.lake.delta.table_files import silently
from m365watch.lake.erasure.erasure_journal import Asked
from m365watch.lake.erasure.record_erasure import Erasure
from m365watch.lake.erasure.tombstones import KEPT, MarkBook, drop_old_marks, read_erased
from m365watch.lake.maintenance.maintenance_worker import keep_up
from m365watch.lake.maintenance.retention import retain
from m365watch.lake.stored_records import LakeWitness
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.outputs.lake.lake_output import LakeOutput
from m365watch.records.headers import headers_of
from m365watch.registry.outputs import MarkedPiece
from m365watch_testing.batches import TENANT

NOW = FixedClock().now()
HERS = TenantId(TENANT)
WITHOUT_ID = f'{{"CreationTime":"2026-11-24T10:00:00","Operation":"Get","UserId":"{ANNA}"}}'.encode()
WITHOUT_TIME = f'{{"Id":"x","CreationTime":"soon","Operation":"Get","UserId":"{ANNA}"}}'.encode()


def erase_anna(lake: Path) -> None:
    erasure = Erasure(lake, Asked(names=(ANNA,)), clock=FixedClock(), progress=silently)
    assert erasure.run().verified.is_clean
    erasure.close()


def known_among(lake: Path, records: list[bytes], tenant_id: TenantId = HERS) -> list[bytes]:
    places = LakeWitness(lake).places_known(tenant_id, records, headers_of(records))
    return [record for place, record in enumerate(records) if place in places]


def test_what_was_erased_is_known_though_the_lake_has_it_no_more(tmp_path: Path) -> None:
    """However long ago; also without an Id, or a time; and no other tenant's."""
    records = fill_days(tmp_path, 3)
    write(AuditWriter(tmp_path, app_id=APP_ID), 1000, [WITHOUT_ID, WITHOUT_TIME])
    hers = [one for one in records if field_of(one, "UserId") == ANNA] + [WITHOUT_ID, WITHOUT_TIME]
    erase_anna(tmp_path)

    assert set(records_of(tmp_path)).isdisjoint(hers)
    assert known_among(tmp_path, hers) == hers
    assert known_among(tmp_path, [a_record(60_000, day=TODAY), WITHOUT_ID.replace(b"Get", b"Set")]) == []
    assert known_among(tmp_path, hers, TenantId("22222222-2222-2222-2222-222222222222")) == []


def test_a_witness_that_looked_before_the_erasure_knows_too(tmp_path: Path) -> None:
    """What it saw is gone from the disk; it looks again, and sees the marks."""
    hers = [a_record(6, day=TODAY)]
    write(AuditWriter(tmp_path, app_id=APP_ID), 1, hers)
    witness = LakeWitness(tmp_path)
    assert witness.places_known(HERS, hers, headers_of(hers)) == {0}
    erase_anna(tmp_path)

    assert known_among(tmp_path, hers) == hers


@guarantee(17)
def test_marks_tell_nothing_by_themselves(tmp_path: Path) -> None:
    """No name, no Id, their owner's alone; and those of another lake are others."""
    for name in ("one", "other"):
        write(AuditWriter(tmp_path / name, app_id=APP_ID), 1, [a_record(6, day=TODAY)])
        erase_anna(tmp_path / name)

    one, other = (
        {path.name: path for path in (tmp_path / name / "erased").iterdir()} for name in ("one", "other")
    )
    assert sorted(one) == ["2026-11-24.marks", "key"]
    assert [len(one[name].read_bytes()) for name in sorted(one)] == [16, 32]
    assert {path.stat().st_mode & 0o077 for path in one.values()} == {0}
    assert (tmp_path / "one" / "erased").stat().st_mode & 0o077 == 0
    assert all(one[name].read_bytes() != other[name].read_bytes() for name in one)


def test_what_retention_had_taken_out_and_erasing_finds_on_disk_is_marked(tmp_path: Path) -> None:
    """It is in no table any more, and its file went with the erasure."""
    hers = [one for one in fill_days(tmp_path, 3) if field_of(one, "UserId") == ANNA]
    retain(tmp_path, Retention(days=1), clock=FixedClock(), progress=silently)
    erase_anna(tmp_path)

    assert known_among(tmp_path, hers) == hers
    assert len((tmp_path / "erased" / "2026-11-24.marks").read_bytes()) == 16 * len(hers)


def test_a_torn_mark_does_not_shift_those_after_it(tmp_path: Path) -> None:
    """The process ended in the middle of one; another erasure of the day goes on behind the whole ones."""
    book = MarkBook(tmp_path, began_at=NOW)
    book.maker()
    book.add([b"a" * 16])
    with (tmp_path / "erased" / "2026-11-24.marks").open("ab") as file:
        file.write(b"torn")
    torn = read_erased(tmp_path)
    book.add([b"b" * 16])

    erased = read_erased(tmp_path)
    assert torn is not None
    assert erased is not None
    assert (torn.marks, erased.marks) == (b"a" * 16, b"a" * 16 + b"b" * 16)
    assert [erased.has(one * 16) for one in (b"a", b"b", b"c")] == [True, True, False]


def test_marks_go_when_their_time_is_over(tmp_path: Path) -> None:
    """A day's at a time, by upkeep too; the key stays for those that come."""
    write(AuditWriter(tmp_path, app_id=APP_ID), 1, [a_record(6, day=TODAY)])
    erase_anna(tmp_path)

    assert drop_old_marks(tmp_path, now=NOW + KEPT) == 0
    keep_up(tmp_path, clock=FixedClock(NOW + KEPT + timedelta(days=1)))
    assert [path.name for path in (tmp_path / "erased").iterdir()] == ["key"]


def test_the_lake_tells_a_new_ledger_what_was_erased(tmp_path: Path) -> None:
    """The key and every mark; nothing where nothing was erased."""
    write(AuditWriter(tmp_path, app_id=APP_ID), 1, [a_record(6, day=TODAY)])

    async def told() -> list[MarkedPiece]:
        output = LakeOutput("lake", tmp_path, writer_id=WRITER_ID, clock=FixedClock())
        pieces = [piece async for piece in output.list_erased()]
        await output.close()
        return pieces

    before = asyncio.run(told())
    erase_anna(tmp_path)
    [piece] = asyncio.run(told())
    erased = read_erased(tmp_path)

    assert before == []
    assert erased is not None
    assert (piece.key, b"".join(piece.marks)) == (erased.maker.key, erased.marks)


def test_what_cannot_be_marked_stays(tmp_path: Path) -> None:
    """A disk that takes no mark: nothing goes, and the repeat does all of it."""
    records = fill_days(tmp_path, 2)
    (tmp_path / "erased").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        erase_anna(tmp_path)
    kept = sorted(records_of(tmp_path))
    (tmp_path / "erased").unlink()
    erase_anna(tmp_path)

    assert kept == sorted(records)
    assert known_among(tmp_path, records) == records
