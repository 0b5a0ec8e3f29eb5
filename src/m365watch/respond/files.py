"""Where a file is: its path on its server for PowerShell, and its address for Graph.

Records write addresses mostly as people see them, and some as browsers send them. What looks like an escape
is a blank in the one and a part of the name in the other: the file's own name, which records have beside the
address, tells which. Where nothing tells it, nobody guesses: the other file may be somebody else's work.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from m365watch.respond.quoting import UnsafeValue, share_id
from m365watch.values import dataclass

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_NEVER_SENT = re.compile(r"[^!-~]|[\"<>\\^`{|}]")
"""What no address has as it is sent: blanks, letters that are not ASCII, and some signs."""
_KEPT = "/:@!$&()*+,;=~"


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A file at an address of SharePoint."""

    shown: str
    """The address as the record has it."""
    path: str
    """From its server on, as people write it; empty where that is not certain."""
    share: str
    """How Graph names it below /shares; empty where its path is not certain."""


def place_of(shown: str, names: tuple[str, ...] = ()) -> FilePlace | None:
    """The file at that address; `names` has what the record calls it. None where it is no address."""
    scheme, _, rest = shown.partition("://")
    host, _, below = rest.partition("/")
    try:
        share_id(shown)
    except UnsafeValue:
        return None
    path = _path_of(f"/{below}", names)
    path = path if path.isprintable() else ""
    return FilePlace(shown, path, share_id(f"{scheme}://{host}{quote(path, safe=_KEPT)}") if path else "")


def _path_of(written: str, names: tuple[str, ...]) -> str:
    """The path as people write it; empty where it is not certain how this one is written."""
    if not _ESCAPE.search(written) or _NEVER_SENT.search(written):
        return written
    last = written.rpartition("/")[2]
    if last == unquote(last):
        return ""
    is_sent, is_shown = unquote(last) in names, last in names
    return "" if is_sent == is_shown else unquote(written) if is_sent else written
