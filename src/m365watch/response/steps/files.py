"""Where a file is: its path on its server for PowerShell, and its address for Graph.

Records write addresses mostly as people see them, and some as browsers send them. What looks like an escape
is a blank in the one and a part of the name in the other: the file's own name, which records have beside the
address, tells which. Where nothing tells it, nobody guesses: the other file may be somebody else's work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from urllib.parse import quote, unquote

from m365watch.response.steps.command_escaping import UnsafeValue, is_whole, share_id

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_NEVER_SENT = re.compile(r"[^!-~]|[\"<>\\^`{|}]")
"""What no address has as it is sent: blanks, letters that are not ASCII, and some signs."""
_SITES = frozenset({"personal", "sites", "teams"})
"""What stands before the name of a site in an address; any other is of the site at the root."""
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


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a file lies whose own name is not known whole."""

    site: str
    """The address of its site."""
    path: str
    """From the site on, as far as it is known whole; may be empty."""

    @property
    def shown(self) -> str:
        """The address of both."""
        return f"{self.site}/{self.path}" if self.path else self.site


def folder_of(shown: str) -> Folder | None:
    """The nearest folder that is known of what is at that address; None where not even its site is."""
    scheme, _, rest = shown.partition("://")
    host, *segments = rest.split("/")
    whole = [*takewhile(is_whole, segments[:-1])]
    depth = 2 if segments[0:1] and segments[0].lower() in _SITES else 0
    if scheme != "https" or not is_whole(host) or len(whole) < depth:
        return None
    return Folder("/".join((f"https://{host}", *whole[:depth])), "/".join(whole[depth:]))


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
