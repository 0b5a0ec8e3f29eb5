"""What the collector tells while it works: one line each on stderr, text or JSON."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import MutableMapping
from typing import Any

import structlog

from m365watch.cli.terminal.console import LineFormat
from m365watch.common.text import plain
from m365watch.health.devo_error_codes import devo_line

_TOLD_MAX = 256


def tell(level: int, text: str) -> None:
    """A line that stands by itself: in text without time and level, in JSON like any other."""
    structlog.get_logger().log(level, text, bare=True)


class Told:
    """Remembers the latest errors, so that the end of a run need not repeat them; a structlog processor."""

    def __init__(self) -> None:
        """Nothing told yet."""
        self._texts: deque[str] = deque(maxlen=_TOLD_MAX)

    def __call__(
        self, _origin: object, method: str, fields: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Pass `fields` on as they are."""
        if method == "error":
            self._texts.append(str(fields["event"]))
        return fields

    def __contains__(self, text: str) -> bool:
        """Whether `text` was among the latest errors."""
        return text in self._texts


def configure_diagnostics(
    *,
    line_format: LineFormat,
    level: int,
    colour: bool,
    board: structlog.typing.Processor | None = None,
    told: Told | None = None,
) -> Told:
    """Send every structlog line of `level` (as in `logging`) and above to stderr in `line_format`.

    `board` gets the lines at INFO and above as well, whatever `level` is; `told` goes on remembering.
    """
    told = told or Told()
    render = _json_renderer() if line_format is LineFormat.JSON else _text_renderer(colour)
    structlog.configure(
        processors=[
            told,
            structlog.contextvars.merge_contextvars,
            _write_as_devo,
            *([board] if board else []),
            _hide_below(level),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(min(level, logging.INFO) if board else level),
        logger_factory=_StderrFactory(),
        cache_logger_on_first_use=False,
    )
    return told


def _write_as_devo(
    _origin: object, method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A warning or an error with a `code` as Devo's operators know it: `ApiError [CODE:0429] reason: ...`."""
    if "code" in fields and method in ("warning", "error"):
        fields["event"] = devo_line(str(fields["code"]), str(fields["event"]))
    return fields


def _hide_below(level: int) -> structlog.typing.Processor:
    def hide(_origin: object, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if structlog.processors.NAME_TO_LEVEL[method] < level:
            raise structlog.DropEvent
        return fields

    return hide


def level_of(*, quiet: bool, verbose: bool) -> int:
    """INFO, or what the two switches of `run` make of it."""
    if verbose:
        return logging.DEBUG
    return logging.WARNING if quiet else logging.INFO


class _StderrFactory:
    """Looks `sys.stderr` up at every line, so that a live display can put lines above itself."""

    def __call__(self, *names: object) -> _StderrLines:
        return _StderrLines(str(names[0]).removeprefix("m365watch.") if names else "")


class _StderrLines:
    def __init__(self, module: str) -> None:
        self.module = module
        """Who speaks, below the package; empty for what is meant for the person at the terminal alone."""

    def info(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    debug = warning = error = critical = info


_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m", "debug": "\x1b[2m"}
_LINE_KEYS = ("timestamp", "level", "event", "exception", "code")


def _json_renderer() -> structlog.typing.Processor:
    as_json = structlog.processors.JSONRenderer(ensure_ascii=False)

    def render(origin: object, method: str, fields: MutableMapping[str, Any]) -> str | bytes:
        fields.pop("bare", None)
        return as_json(origin, method, fields)

    return render


def _text_renderer(colour: bool) -> structlog.typing.Processor:
    """Lines such as `09:00:00 warning  ApiError [CODE:0429] reason: contoso/Audit.Exchange: HTTP 429`."""

    def render(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> str:
        if fields.pop("bare", False):
            return plain(str(fields.get("event", "")))
        level = str(fields.get("level", "info"))
        extra = "".join(f" {key}={value}" for key, value in fields.items() if key not in _LINE_KEYS)
        text = plain(f"{fields.get('event', '')}{extra}")
        mark = level if level != "info" else ""
        start, end = (_COLOURS.get(level, ""), "\x1b[0m") if colour and level in _COLOURS else ("", "")
        trace = f"\n{fields['exception']}" if "exception" in fields else ""
        return f"{str(fields.get('timestamp', ''))[11:19]} {start}{mark:<8}{end}{text}{trace}"

    return render
