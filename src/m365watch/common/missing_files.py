"""What the ledger remembers of a lake's data files that are missing: every report reads it from here.

A running collector looks once an hour, and each start does. `m365watch lake repair` ends it.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import msgspec

PREFIX = "missing files/"
NAMED_MAX = 20
"""Files that are named; all are counted."""


class MissingFiles(msgspec.Struct, frozen=True):
    """The data files that a lake's table names and that are not there, as one loss."""

    files: int
    """0 after a repair: what is left are records that are not served any more."""
    records: int
    """As the table says; a file that another engine wrote may count none."""
    first_day: date
    last_day: date
    names: tuple[str, ...]
    """From the lake's folder on."""
    found_at: datetime
    received_from: datetime | None
    """When the first of the records was received; None where nobody knows."""
    received_to: datetime | None
    is_removed: bool = False
    """The table does not name the files any more; a repair is not at its end, or has left records over."""

    @property
    def what(self) -> str:
        """For example `1 data file of the lake is missing: audit/day=.../1.parquet; 312 records of ...`."""
        records = "1 record" if self.records == 1 else f"{self.records:,} records"
        if not self.files:
            return f"the lake lacks {records} of {self.days}, which Microsoft's feed does not serve any more"
        one = self.files == 1
        subject = "1 data file of the lake is" if one else f"{self.files:,} data files of the lake are"
        more = ", ..." if self.files > len(self.names[:3]) else ""
        return f"{subject} missing ({', '.join(self.names[:3])}{more}): it lacks {records} of {self.days}"

    @property
    def days(self) -> str:
        """`2026-11-24`, or the first and the last."""
        if self.first_day == self.last_day:
            return self.first_day.isoformat()
        return f"{self.first_day.isoformat()} to {self.last_day.isoformat()}"


def joined(one: MissingFiles, other: MissingFiles) -> MissingFiles:
    """Both as one loss."""
    starts = [at for at in (one.received_from, other.received_from) if at is not None]
    ends = [at for at in (one.received_to, other.received_to) if at is not None]
    return MissingFiles(
        files=one.files + other.files,
        records=one.records + other.records,
        first_day=min(one.first_day, other.first_day),
        last_day=max(one.last_day, other.last_day),
        names=(*one.names, *other.names)[:NAMED_MAX],
        found_at=one.found_at,
        received_from=min(starts) if len(starts) == 2 else None,
        received_to=max(ends) if len(ends) == 2 else None,
        is_removed=one.is_removed or other.is_removed,
    )


def missing_line(output: str, missing: MissingFiles) -> str:
    """The loss, with the output that has it."""
    return f"output {output}: {missing.what}"


def fix_of(output: str, missing: MissingFiles) -> str:
    """What a person has to do about it."""
    if not missing.files:
        return f"stop the collector and run `{recovery_of(output, missing)}`"
    return (
        "put each file back from a backup; without one, stop the collector, run"
        f" `m365watch lake repair --output {output}` and start it again"
    )


def recovery_of(output: str, missing: MissingFiles) -> str:
    """The command that fetches the records from the audit search."""
    end = missing.last_day + timedelta(days=1)
    return f"m365watch recover --from {missing.first_day} --to {end} --output {output}"


def memory_name(output: str) -> str:
    """The name under which the ledger keeps it."""
    return f"{PREFIX}{output}"


def body_of(missing: MissingFiles) -> str:
    """As the ledger keeps it."""
    return msgspec.json.encode(missing).decode()


def missing_of(body: str | None) -> MissingFiles | None:
    """What `body_of` made the text of; None for nothing, or what is unreadable."""
    try:
        return None if body is None else msgspec.json.decode(body, type=MissingFiles)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
