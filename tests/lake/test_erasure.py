"""One person's records go, from every file; nobody else's do."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from promises import guarantee

from keeping_lake import ANNA, APP_ID, TODAY, FixedClock, a_record, field_of, fill_days, write
from lake_place import records_of
from m365watch.common.errors import ErasureOpen
from m365watch.lake.delta.table_files import silently
from m365watch.lake.erasure.erasure_journal import Asked, open_note
from m365watch.lake.erasure.person_matching import PERSON_FIELDS, Person, name_mistake
from m365watch.lake.erasure.record_erasure import Erased, Erasure
from m365watch.lake.maintenance.compaction import compact
from m365watch.lake.writer.table_writer import AuditWriter

PAGE = (Path(__file__).parents[2] / "docs" / "lake.md").read_text()
ID = "9f2c1d00-1111-4222-8333-abcdefabcdef"


def erased_from(directory: Path, *names: str, clock: FixedClock | None = None, **asked: object) -> Erased:
    """Erase and forget the note, as the command does."""
    wanted = Asked(names=Person(names).names, **asked)  # type: ignore[arg-type]  # one of Asked's own fields
    erasure = Erasure(directory, wanted, clock=clock or FixedClock(), progress=silently)
    erased = erasure.run()
    erasure.close()
    return erased


def record_with(**fields: object) -> str:
    """A record of somebody else's, with these fields."""
    return a_record(2, day=TODAY, **fields).decode()


@pytest.mark.parametrize(
    "fields",
    [
        {"UserId": "Anna@Contoso.example"},
        {"UserKey": f"i:0h.f|membership|{ANNA}"},
        {"TargetUserOrGroupName": ANNA},
        {"Target": [{"ID": ANNA, "Type": 5}]},
        {"Members": [{"UPN": ANNA, "Role": 1}]},
        {"MailboxOwnerUPN": ANNA},
        {"ObjectId": ANNA},
    ],
)
def test_whoever_acted_or_was_acted_upon_is_found(fields: dict[str, object]) -> None:
    """In any case, and inside the forms in which the service writes names."""
    assert Person([ANNA]).is_in(record_with(**fields))


@guarantee(17)
@pytest.mark.parametrize(
    "fields",
    [
        {"UserId": "joanna@contoso.example"},
        {"UserId": "anna@contoso.example.org"},
        {"UserId": "o'anna@contoso.example"},
        {"UserId": "x_anna@contoso.example"},
        {"UserId": "anna@contoso.example-group.test"},
        {"Subject": f"lunch with {ANNA}"},
    ],
)
def test_nobody_else_is(fields: dict[str, object]) -> None:
    """A name inside a longer one is another name; a field that names nobody does not count."""
    assert not Person([ANNA]).is_in(record_with(**fields))


@pytest.mark.parametrize(
    "raw",
    [
        record_with(Subject=f"lunch with '{ANNA}'."),
        record_with(Subject="x").replace('"x"', '"\\u0061nna@contoso.example"'),
        record_with(Items=[{"Folder": {"Path": f"mailto:{ANNA}"}}]),
        f'{{"broken": "{ANNA}',
    ],
)
def test_a_mention_is_found_wherever_it_stands(raw: str) -> None:
    """Quoted, escaped, deep inside, or in what is no JSON."""
    records = pa.chunked_array([[raw, record_with()]])

    assert Person([ANNA], anywhere=True).marks(records).to_pylist() == [True, False]


def test_an_id_is_found_behind_its_kind() -> None:
    """Entra writes User_ before a user's id; another id that ends alike is another."""
    person = Person([ID])

    assert person.is_in(record_with(Target=[{"ID": f"User_{ID.upper()}", "Type": 2}]))
    assert not person.is_in(record_with(Target=[{"ID": f"a{ID}", "Type": 2}]))


def test_the_quick_look_misses_nothing() -> None:
    """Names with characters that JSON may escape are found in either spelling."""
    for name in ["CONTOSO\\anna", "o=org/cn=anna", "änna@contoso.example"]:
        record = record_with(UserId=name)
        plain = json.dumps(json.loads(record), ensure_ascii=False)
        slashed = record.replace("/", "\\/")
        assert Person([name]).marks(pa.chunked_array([[record, plain, slashed]])).to_pylist() == [True] * 3


def test_names_are_bounded() -> None:
    """None, too many, or one so short that it would be anybody's."""
    assert [name_mistake(names) is None for names in ([], ["x" * 3] * 21, ["ab"], ["abc"])] == [
        False,
        False,
        False,
        True,
    ]


def test_the_page_names_the_fields() -> None:
    """What counts as naming a person is documented, field by field."""
    section = PAGE.partition("## Erasing a person")[2].partition("\n## ")[0]

    assert [name for name in sorted(PERSON_FIELDS) if f"`{name}`" not in section] == []


@guarantee(17)
def test_one_persons_records_go_and_no_others(tmp_path: Path) -> None:
    """Counted by table and day; everybody else's records are there byte for byte."""
    records = fill_days(tmp_path, 3)

    erased = erased_from(tmp_path, ANNA)

    others = [record for record in records if field_of(record, "UserId") != ANNA]
    assert sorted(records_of(tmp_path)) == sorted(others)
    assert sum(erased.records.values()) == len(records) - len(others)
    assert erased.verified.is_clean
    assert (erased.verified.rows_read, erased.was_resumed) == (len(others), False)


@guarantee(17)
def test_the_bytes_are_gone_from_the_disk(tmp_path: Path) -> None:
    """Whatever stayed for older versions too: merged and replaced files, and what a crash left."""
    fill_days(tmp_path, 2)
    compact(tmp_path, clock=FixedClock(), progress=silently)
    audit = tmp_path / "audit"
    [first, *_] = sorted(audit.glob("day=*/*.parquet"))
    (first.parent / "left.parquet").write_bytes(first.read_bytes())
    os.utime(first.parent / "left.parquet", (1, 1))
    assert "anna@contoso.example" in people_on_disk(audit)

    erased = erased_from(tmp_path, ANNA)

    assert people_on_disk(audit) >= {"ben@contoso.example", "joanna@contoso.example"}
    assert ANNA not in people_on_disk(audit)
    assert erased.files_removed > erased.files_replaced
    for path in tmp_path.rglob("*"):
        text = path.read_bytes().replace(b"joanna", b"") if path.is_file() else b""
        assert ANNA.encode() not in text


@guarantee(17)
def test_a_young_file_that_may_be_a_batch_stays_and_is_told(tmp_path: Path) -> None:
    """It may be on its way into the table: the erasure is not complete until it is in, or old."""
    fill_days(tmp_path, 1)
    [path, *_] = sorted((tmp_path / "audit").glob("day=*/*.parquet"))
    young = path.parent / "0123456789ab-000000000099.parquet"
    young.write_bytes(path.read_bytes())
    now = datetime.fromtimestamp(young.stat().st_mtime, UTC)

    first = erased_from(tmp_path, ANNA, clock=FixedClock(now))
    later = erased_from(tmp_path, ANNA, clock=FixedClock(now + timedelta(hours=3)))

    assert (first.verified.young_files, first.verified.is_clean) == (1, False)
    assert (later.verified.is_clean, young.exists()) == (True, False)


def test_only_what_was_created_in_the_time_asked_for(tmp_path: Path) -> None:
    """From an instant, included, to another, left out."""
    records = fill_days(tmp_path, 3)
    start = datetime(2026, 11, 23, tzinfo=UTC)

    erased_from(tmp_path, ANNA, start=start, end=start + timedelta(days=1))

    assert sorted(records_of(tmp_path)) == sorted(
        record
        for record in records
        if field_of(record, "UserId") != ANNA or not field_of(record, "CreationTime").startswith("2026-11-23")
    )


def test_what_arrives_later_is_told_apart(tmp_path: Path) -> None:
    """A person who still works makes new records: they are no failure of the erasure."""
    fill_days(tmp_path, 1)
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    name = "late@contoso.example"

    class RecordArrives(FixedClock):
        """Asked for the second time, when everything was looked through, a record arrives."""

        asked = 0

        def now(self) -> datetime:
            self.asked += 1
            if self.asked == 2:
                write(writer, 50, [a_record(7, day=TODAY, UserId=name)])
            return datetime(2026, 11, 1, tzinfo=UTC)

    verified = erased_from(tmp_path, name, clock=RecordArrives()).verified

    assert (verified.arrived, verified.remaining, verified.is_clean) == (1, 0, True)


@guarantee(17)
def test_what_leaves_the_queue_while_it_is_searched_is_found_in_the_lake(tmp_path: Path) -> None:
    """The look into the lake came too early, and that into the queue too late."""
    fill_days(tmp_path, 1)
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    erasure = Erasure(tmp_path, Asked(names=(ANNA,)), clock=FixedClock(), progress=silently)
    erased = erasure.run()
    before = erased.verified.files_read
    write(writer, 50, [a_record(6000, day=TODAY), a_record(6001, day=TODAY)])

    erasure.look_again(erased)

    assert (erased.verified.remaining + erased.verified.arrived, erased.verified.files_read) == (
        1,
        before + 1,
    )


def test_another_erasure_waits_for_the_one_that_was_interrupted(tmp_path: Path) -> None:
    """Half of somebody's records gone, and the other half forgotten, would be the worst of both."""
    fill_days(tmp_path, 1)
    open_note(tmp_path, Asked(names=(ANNA,)), now=FixedClock().now())

    with pytest.raises(ErasureOpen, match="m365watch lake erase --resume"):
        erased_from(tmp_path, "ben@contoso.example")


@guarantee(16)
def test_appends_meanwhile_lose_nothing(tmp_path: Path) -> None:
    """A real writer goes on in another thread while files are replaced."""
    records = fill_days(tmp_path, 3)
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    late = [a_record(9000 + 6 * n + 2, day=TODAY) for n in range(30)]

    async def both() -> None:
        def append() -> None:
            for n, record in enumerate(late):
                write(writer, 100 + n, [record])

        await asyncio.gather(asyncio.to_thread(append), asyncio.to_thread(erased_from, tmp_path, ANNA))

    asyncio.run(both())

    kept = [record for record in records if field_of(record, "UserId") != ANNA]
    assert sorted(records_of(tmp_path)) == sorted(kept + late)


def people_on_disk(table: Path) -> set[str]:
    """Everybody in any Parquet file, whether the table names the file or not."""
    return {
        name
        for path in table.rglob("*.parquet")
        if "_delta_log" not in path.parts
        for name in pq.ParquetFile(path).read(["user_id"])["user_id"].to_pylist()
    }
