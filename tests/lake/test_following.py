"""A commit in the middle of the log that has become empty: a check says which, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake_place import WRITER_ID
from m365watch.lake.checking import check_lake
from m365watch.lake.commits import COMMITS_PER_CHECKPOINT, commit_path
from m365watch.lake.files import silently
from m365watch.lake.writer import AuditWriter
from m365watch.testing.batches import make_records, make_simple_batch

APP_ID = f"m365watch/lake/{WRITER_ID}"
OTHER_ID = "m365watch/lake/collector-2"


def append(lake: Path, *numbers: int, app_id: str = APP_ID) -> None:
    """Append the batches of these numbers."""
    writer = AuditWriter(lake, app_id=app_id)
    for number in numbers:
        writer.append(make_simple_batch(number, make_records(2, start=number * 1000), output="lake"))


def empty(lake: Path, *versions: int) -> None:
    """Let the commits be empty, as a file system that lost their contents shows them."""
    for version in versions:
        commit_path(lake / "audit", version).write_bytes(b"")


def problems_of(lake: Path) -> list[str]:
    """What a check says."""
    return check_lake(lake, reads_all=True, progress=silently).problems


def is_empty(version: int, batch: int) -> str:
    """What is said of that commit."""
    named = f"audit/_delta_log/{version:020}.json"
    return f"{named}: is empty, and no commit holds batch {batch}: put the file back from a backup"


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_check_names_a_commit_in_the_middle_that_is_empty(tmp_path: Path, version: int) -> None:
    """Delta takes it for one without changes, and opens a table without its records."""
    append(tmp_path, 10, 20, 30, 40, 50)
    assert problems_of(tmp_path) == []
    empty(tmp_path, version)

    assert problems_of(tmp_path) == [is_empty(version, version * 10)]


def test_each_of_several_is_named_once(tmp_path: Path) -> None:
    """Which batch was in which is not to be told: the last of them is."""
    append(tmp_path, 1, 2, 3, 4, 5, 6)
    empty(tmp_path, 2, 3, 5)

    assert problems_of(tmp_path) == [is_empty(2, 3), is_empty(3, 3), is_empty(5, 5)]


def test_the_first_after_a_checkpoint_follows_what_that_holds(tmp_path: Path) -> None:
    """And what is empty before it is none: the checkpoint has its rows."""
    append(tmp_path, *range(1, COMMITS_PER_CHECKPOINT + 4))
    empty(tmp_path, 7)
    assert problems_of(tmp_path) == []
    empty(tmp_path, COMMITS_PER_CHECKPOINT + 1)

    assert problems_of(tmp_path) == [is_empty(COMMITS_PER_CHECKPOINT + 1, COMMITS_PER_CHECKPOINT + 1)]


def test_each_collector_of_a_lake_has_its_own_batches(tmp_path: Path) -> None:
    """Whose numbers have nothing to do with each other's."""
    append(tmp_path, 500, 501)
    append(tmp_path, 7, app_id=OTHER_ID)
    append(tmp_path, 502)
    append(tmp_path, 8, app_id=OTHER_ID)
    assert problems_of(tmp_path) == []
    empty(tmp_path, 3)

    assert problems_of(tmp_path) == [is_empty(3, 7)]


def test_a_commit_that_a_power_cut_has_emptied_is_none(tmp_path: Path) -> None:
    """Its batch was acknowledged to nobody, and came again."""
    append(tmp_path, 1, 2, 3)
    empty(tmp_path, 3)
    append(tmp_path, 3, 4)

    assert problems_of(tmp_path) == []


def test_a_commit_that_is_another_one_s_is_told_by_the_next(tmp_path: Path) -> None:
    """It can be read, and has no batch."""
    append(tmp_path, 1, 2, 3)
    commit_path(tmp_path / "audit", 2).write_bytes(b'{"commitInfo":{}}\n')

    [problem] = problems_of(tmp_path)
    assert problem.startswith(f"audit/_delta_log/{3:020}.json: follows batch 2, which no commit holds: ")


def test_a_first_commit_that_is_empty_is_named(tmp_path: Path) -> None:
    """Nothing opens without it, and of what was wrong nothing was said."""
    append(tmp_path, 1, 2)
    empty(tmp_path, 0)

    assert problems_of(tmp_path) == [
        f"audit/_delta_log/{0:020}.json: is empty: put the file back from a backup"
    ]
