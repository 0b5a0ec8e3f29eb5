"""From which addresses names have signed in lately: kept over restarts."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import structlog

from m365watch.board.access.board_database import BoardStore, hash_of
from m365watch.common.errors import NeedsOperator

KNOWN_MAX = 10_000
"""Names with addresses; only who signs in adds to them, and the oldest gives way."""
_log = structlog.get_logger(__name__)


class KnownAddresses:
    """When names have signed in from addresses; hashes of both are kept."""

    def __init__(self, state_directory: Path | None = None) -> None:
        """Without a state directory, or where that cannot be used, they are forgotten with this process."""
        self._board = BoardStore(state_directory) if state_directory else None
        self._at: OrderedDict[str, float] = OrderedDict()
        self._write()

    def when(self, name: str, address: str) -> float | None:
        """When the name signed in from the address last; None: never that it is known."""
        return self._at.get(hash_of(f"{address}/{name}"))

    def put(self, name: str, address: str, at_s: float) -> None:
        """The name has signed in from the address."""
        hashed = hash_of(f"{address}/{name}")
        self._at[hashed] = at_s
        self._at.move_to_end(hashed)
        while len(self._at) > KNOWN_MAX:
            self._at.popitem(last=False)
        self._write((hashed, at_s))

    def _write(self, *rows: tuple[str, float]) -> None:
        """Write what is new, or read what is there where nothing is."""
        if self._board is None:
            return
        try:
            with self._board.change() as board:
                board.executemany("INSERT OR REPLACE INTO known_address VALUES (?, ?)", rows)
                board.execute(
                    "DELETE FROM known_address WHERE hash IN"
                    " (SELECT hash FROM known_address ORDER BY at DESC LIMIT -1 OFFSET ?)",
                    (KNOWN_MAX,),
                )
                if not rows:
                    self._at.update(board.execute("SELECT hash, at FROM known_address ORDER BY at"))
        except NeedsOperator as error:
            _log.warning(
                f"board: {error}; from which addresses people signed in is forgotten with this process"
            )
            self._board = None
