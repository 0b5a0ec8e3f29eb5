"""An error that nobody foresaw, made fit for `status`: its type and its place, never its words.

The words of a foreign error may quote what it met, a record or a token.
"""

from __future__ import annotations

import traceback

import structlog

from m365watch.errors import Defect

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
