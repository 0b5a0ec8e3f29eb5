"""An error that nobody foresaw, made fit for `status`: its type and its place, never its words.

The words of a foreign error may quote what it met, a record or a token.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from m365watch.common.errors import CollectorError, Defect, RetryLater

_log = structlog.get_logger(__name__)

_OURS = "m365watch"


def defect_of(error: Exception, *, where: str) -> Defect:
    """What to say of `error`; the way to its place is written down for those who want every step."""
    way = [
        f"{frame.f_globals.get('__name__', '?')}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    ours = [step for step in way if step.startswith(_OURS)]
    name, place = type(error).__name__, (ours or way or ["an unknown place"])[-1]
    _log.debug(f"{where}: {name} on the way {' > '.join(way)}")
    return Defect(
        f"unexpected {name} in {place}",
        where=where,
        fix=f"report {name} in {place}, with the lines that `m365watch run --verbose` adds",
    )


class GoingOn:
    """Lets tasks that last go on after whatever they meet: it is told once, and is no end of them."""

    def __init__(self, where: str) -> None:
        """`where` stands before each line."""
        self._where = where
        self._told: dict[str, str] = {}
        """What each task has failed with last, as it was told."""

    @contextmanager
    def __call__(self, task: str) -> Iterator[None]:
        """What `task` fails with within the block is told, unless it was what it failed with before."""
        try:
            yield
        except CollectorError as error:
            self._tell(task, error, f"{self._where}: {error}")
        except Exception as error:  # noqa: BLE001 - what one task fails with, the others go on
            defect = defect_of(error, where=self._where)
            self._tell(task, defect, str(defect))
        else:
            self._told.pop(task, None)

    def _tell(self, task: str, error: CollectorError, text: str) -> None:
        if self._told.get(task) != text:
            self._told[task] = text
            tell = _log.warning if isinstance(error, RetryLater) else _log.error
            tell(text, code=error.code)
