"""A person taken out of a file of notifications that is damaged: it says so, and what to do with the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from m365watch.common.errors import OutputUnusable
from m365watch.notifications.notification_database import FILE_NAME
from m365watch.notifications.notification_erasure import count_told, forget_told
from m365watch.notifications.outbox import NotificationStore


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all " * 300)


def garbled(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("INSERT INTO standing VALUES ('one', x'ff00')")


@pytest.mark.parametrize("harm", [garbage, garbled])
@pytest.mark.parametrize("verb", [count_told, forget_told])
def test_who_is_in_a_damaged_file_cannot_be_taken_out_of_it(
    tmp_path: Path, harm: Callable[[Path], None], verb: Callable[..., int]
) -> None:
    """The file as a whole has to go, also where it is moved to: nobody knows who is in it."""
    path = tmp_path / FILE_NAME
    NotificationStore(path, survives_power_cuts=False).close()
    harm(path)

    with pytest.raises(OutputUnusable) as raised:
        verb(path, lambda _: True)

    assert raised.value.where == str(path)
    assert "the file of notifications cannot be read, to say what of the person is in it" in raised.value.what
    assert raised.value.fix == "move it away, have the erasure repeated, and remove it where you moved it to"
