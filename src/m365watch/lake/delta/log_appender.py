"""The end of a table's log, for whoever appends: followed commit by commit, and added to.

What an append has to know is which commit is the last, and up to which number its own application has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from m365watch.lake.delta.commit import (
    COMMITS_OVERTAKEN_MAX,
    OVERTAKEN,
    Line,
    add_line,
    number_lines,
    put_commit,
)
from m365watch.lake.delta.table_schema import lacks_columns, metadata_with, require_ours
from m365watch.lake.delta.transaction_log import commit_name, last_checkpoint
from m365watch.lake.schema import TableShape
from m365watch.lake.store import Store
from m365watch.lake.writer.parquet_files import Part


class CommitsWentBack(OSError):
    """Commits that were seen are not there any more: another copy of the table has taken its place."""


class _Transaction(msgspec.Struct, frozen=True):
    """One of Delta's app transactions."""

    appId: str  # noqa: N815 - Delta's name
    version: int


class _Line(msgspec.Struct, frozen=True):
    """The part of a commit's lines that counts here."""

    txn: _Transaction | None = None
    columns: msgspec.Raw = msgspec.field(name="metaData", default=msgspec.Raw())
    protocol: msgspec.Raw = msgspec.Raw()


class LastCommit:
    """The last commit that has been seen of a table that is ours to write."""

    def __init__(self, table: DeltaTable, store: Store, shape: TableShape) -> None:
        """Begin with the version that `table` has seen. Raises: ForeignTable."""
        self._store = store
        self._shape = shape
        self._numbers: dict[str, int] = {}
        self._begin(table)

    def _begin(self, table: DeltaTable) -> None:
        require_ours(table, self._shape)
        self._table: DeltaTable | None = table
        self._numbers.clear()
        self.version = table.version()
        """The number of that commit."""

    def number_of(self, app_id: str) -> int:
        """The number under `app_id` in the last commit that has one; 0 for none."""
        if app_id not in self._numbers:
            table = self._table or self._store.open()
            self._numbers[app_id] = table.transaction_version(app_id) or 0
        return self._numbers[app_id]

    def follow(self) -> None:
        """See the commits that others have made meanwhile.

        Raises: CommitsWentBack, ForeignTable; any of WRITE_FAILURES.
        """
        while (body := self._store.get(commit_name(self.version + 1))) is not None:
            if not self._take(body):
                self._open_anew()
                return
            self.version += 1
        # Of commits that a checkpoint stands for, the file may be gone: then others may be that came later.
        checkpoint = last_checkpoint(self._store) or 0
        if checkpoint > self.version or not self._store.has(commit_name(self.version)):
            self._open_anew()

    def _take(self, body: bytes) -> bool:
        """Whether a commit could be followed: it is readable, and the table itself stays what it was."""
        try:
            lines = [msgspec.json.decode(line, type=_Line) for line in body.splitlines()]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if any(line.columns or line.protocol for line in lines):
            return False
        self._numbers |= {line.txn.appId: line.txn.version for line in lines if line.txn is not None}
        return True

    def _open_anew(self) -> None:
        table = self._store.open()
        if table.version() < self.version:
            raise CommitsWentBack(
                f"its log ends with commit {table.version()}, not {self.version}, as it did"
            )
        self._begin(table)

    def put(self, parts: Sequence[Part], numbers: Mapping[str, int], *, synced_version: int) -> bool:
        """Make an append the next commit, not yet durable; False where another process was first.

        False too where that cannot be ruled out: `number_of` tells whether it got in all the same.

        Raises: any of WRITE_FAILURES.
        """
        lines = [*map(add_line, parts), *number_lines(numbers)]
        if not self._put("WRITE", lines, synced_version=synced_version):
            return False
        self._numbers |= numbers
        return True

    def add_columns(self, *, synced_version: int) -> bool:
        """Give the table the columns that it lacks, in one commit that is not yet durable; whether it did.

        Where other processes commit meanwhile, it looks again: they may have added them.
        Raises: ForeignTable; any of WRITE_FAILURES.
        """
        for _ in range(COMMITS_OVERTAKEN_MAX):
            table = self._table or self._store.open()
            if not lacks_columns(table, self._shape):
                return False
            lines = [{"metaData": metadata_with(table, self._shape)}]
            is_in = self._put("ADD COLUMNS", lines, synced_version=synced_version)
            self._open_anew()
            if is_in:
                return True
        raise CommitFailedError(OVERTAKEN)

    def _put(self, operation: str, lines: Iterable[Line], *, synced_version: int) -> bool:
        is_in = put_commit(self._store, self.version + 1, operation, lines, synced_version=synced_version)
        self.version += is_in
        return is_in

    def forget_table(self) -> None:
        """Give back what opening the table took; from here on each commit is followed."""
        self._table = None
