"""How an output stands with its receiver: what is in the way is told once, and once when it is over."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

import structlog

from m365watch.common.errors import CollectorError, NeedsOperator

_REASONS_REMEMBERED = 8
"""Reasons that are not told again while the receiver is away, though others came between."""

_log = structlog.get_logger(__name__)


class Condition:
    """What is known of the ways to one receiver; as long as one of them is good, so is the whole."""

    def __init__(self, *, where: str, over: str, tells: bool = True) -> None:
        """Nothing is known yet; `over` is told when a trouble has passed. Without `tells` nothing is."""
        self._tells = tells
        self._where = where
        self._over = over
        self._known: dict[Hashable, CollectorError | None] = {}
        self._told: deque[str] = deque(maxlen=_REASONS_REMEMBERED)

    @property
    def trouble(self) -> CollectorError | None:
        """What went wrong last on a way to the receiver; None while any way is good or none was tried."""
        if None in self._known.values():
            return None
        return next(reversed(self._known.values()), None)

    def note(self, way: Hashable, error: CollectorError, *, line: str | None = None) -> None:
        """`error` is in the way; it is told unless it is known, as `line` if that says more.

        What a person has to mend is told as an error, anything else as a warning.
        """
        self._known.pop(way, None)
        self._known[way] = error
        if error.what in self._told or not self._tells:
            return
        self._told.append(error.what)
        tell = _log.error if isinstance(error, NeedsOperator) else _log.warning
        tell(line or str(error), code=error.code)

    def passed(self, way: Hashable) -> None:
        """That way is good now."""
        if self.trouble is not None and self._tells:
            _log.info(f"{self._where}: {self._over}")
            self._told.clear()
        self._known[way] = None
        if not any(self._known.values()):
            self._told.clear()
