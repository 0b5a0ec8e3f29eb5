"""What the web server tells, in the words and on the way of everything else that is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from m365watch.common.error_boundary import defect_of

SERVER = "uvicorn.error"
"""The name under which the server logs all that is no request."""
_UNTOLD = ("Cancel ", "Invalid HTTP request", "Unsupported upgrade", "No supported WebSocket")
"""What belongs to every end, and what anybody can make the server say as often as they like."""
_log = structlog.get_logger(__name__)


class ServerLines(logging.Handler):
    """Tells an error of the server as one line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it, or leave it out."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError) or isinstance(record.msg, OSError):
            return  # the board ends; or it cannot listen, which is told with what to do
        if isinstance(error, Exception):
            defect = defect_of(error, where="board")
            _log.error(str(defect), code=defect.code)
        elif not record.getMessage().startswith(_UNTOLD):
            _log.log(record.levelno, f"board: {record.getMessage()}")


@contextmanager
def told_as_ours() -> Iterator[None]:
    """While entered, what the server logs as a warning or worse is told by `ServerLines`."""
    logger, lines = logging.getLogger(SERVER), ServerLines(logging.WARNING)
    before = logger.propagate
    logger.addHandler(lines)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.propagate = before
