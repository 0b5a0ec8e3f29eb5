"""Kill a run at each of its file operations, kill its successor too, and judge what is left.

Run as a program by `test_files_crashes.py`: each run is a child process of its own that ends
without any of Python's tidying up. Writes are torn: half of the bytes arrive before the end.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from m365watch.outputs.files.archive import Archive
from m365watch_testing.batches import make_batch, make_part, make_records
from output_places import SteppingClock, files_settings, records_by_folder

KILLED = 9
RECORDS = make_records(42)
TABLES = [("a", "a", "b", "c")[number % 4] for number in range(42)]
_TRUTH = {
    table: [record for record, its in zip(RECORDS, TABLES, strict=True) if its == table] for table in "abc"
}


class Ledger:
    """What is committed: the last batch, its position, and how many records have gone out."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier run has left."""
        self._path = path
        kept: tuple[int, str, int] = (0, "", 0)
        if path.exists():
            kept = msgspec.json.decode(path.read_bytes(), type=tuple[int, str, int])
        self.last_batch, self.position, self.record_count = kept

    def commit(self, *, number: int, position: str, record_count: int) -> None:
        """Replace the whole in one step."""
        draft = self._path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode((number, position, record_count)))
        draft.replace(self._path)
        self.last_batch, self.position, self.record_count = number, position, record_count


def run(place: Path, compression: str) -> None:
    """Deliver what the ledger lacks, some of it after a quiet moment, and stop in order."""
    clock = SteppingClock()
    ledger = Ledger(place / "ledger.json")
    # A run numbers its batches anew, a good way behind those that came before.
    number = ledger.last_batch + 10
    settings = files_settings(place / "records", compression=compression, rotate_bytes=5000)
    archive = Archive(settings, clock=clock, quiet_s=3.0)
    archive.open(last_batch=ledger.last_batch, position=ledger.position)
    while ledger.record_count < len(RECORDS):
        end = ledger.record_count + 6 + number % 5
        span = slice(ledger.record_count, end)
        part = make_part(RECORDS[span], outputs=["files"], tables=TABLES[span])
        position = archive.deliver(make_batch(number, [part])).position
        if number % 3 == 0:
            clock.step(3.0)
            archive.publish_due()
        ledger.commit(number=number, position=position, record_count=min(end, len(RECORDS)))
        number += 1
    archive.publish_all()
    archive.release()


def die_at(step: int) -> None:
    """End this process at its file operation number `step`, tearing it if it is a write."""
    left = step

    def count() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def watch(kind: str, _: object) -> None:
        if kind in {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"} and count():
            os._exit(KILLED)

    def torn_pwritev(descriptor: int, pieces: list[bytes], start: int) -> int:
        if count():
            torn = b"".join(pieces)
            os.pwrite(descriptor, torn[: len(torn) // 2], start)
            os._exit(KILLED)
        return whole_pwritev(descriptor, pieces, start)

    whole_pwritev: Callable[[int, list[bytes], int], int] = os.pwritev
    setattr(os, "pwritev", torn_pwritev)  # noqa: B010 - this process exists to be killed
    sys.addaudithook(watch)


def leave_out_flushing() -> None:
    """Save thousands of waits: what a process has written outlives it without flushing, too."""
    for name in ("fsync", "fdatasync"):
        setattr(os, name, lambda _: None)


def in_child(work: Callable[[], None]) -> int:
    """The exit code of a child process that does `work`."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def list_broken(place: Path, compression: str, *, step: int) -> tuple[list[str], bool]:
    """The promises broken by deaths at `step` and in the next run; whether the first one died."""

    def dying_run(at: int) -> None:
        die_at(at)
        run(place, compression)

    broken = []
    died = in_child(partial(dying_run, step)) == KILLED
    for round_name, work in (
        ("after one death", partial(dying_run, step * 7 % 31 + 1)),
        ("after two", lambda: run(place, compression)),
    ):
        published = records_by_folder(place / "records")
        for table, records in published.items():
            if not Counter(records) <= Counter(_TRUTH[table]):
                broken.append(f"step {step}, {round_name}: {table} repeats or invents records")
        if in_child(work) not in {0, KILLED}:
            broken.append(f"step {step}, {round_name}: the next run failed")
    if records_by_folder(place / "records") != _TRUTH:
        broken.append(f"step {step}: the end differs from the truth")
    return broken, died


def main() -> int:
    """Try every step until a run gets through; print what broke."""
    root, compression = Path(sys.argv[1]), sys.argv[2]
    broken: list[str] = []
    leave_out_flushing()
    died, step = True, 0
    while died:
        step += 1
        place = root / f"{step}"
        place.mkdir()
        found, died = list_broken(place, compression, step=step)
        broken += found
    sys.stdout.write("\n".join([*broken, f"{step - 1} deaths"]))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
