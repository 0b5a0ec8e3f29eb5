"""What `status` and `tenants` say of a configuration that was changed while the collector ran."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from m365watch.cli.terminal.formatting import count, quoted, span, whole_line
from m365watch.cli.terminal.json_output import instant

if TYPE_CHECKING:
    from m365watch.health.config_status import ConfigurationNote

_FIX = "correct what is named; the file is read again once it is saved"
LINES_SHOWN_MAX = 6
"""Mistakes, and keys that need a restart, that are shown of each."""


def configuration_lines(note: ConfigurationNote | None, *, now: datetime) -> list[Text]:
    """Why the file was not taken up, and what of it needs a restart; nothing where all is well."""
    if note is None:
        return []
    lines = []
    if note.refused_at is not None:
        age = span((now - note.refused_at).total_seconds())
        text = f"error: {note.file} cannot be used since {age} ago; nothing of it was taken up:"
        lines.append(whole_line(text, style="red"))
        lines += _some(note.mistakes, "mistake", style="red")
        lines.append(whole_line(f"hint: {quoted(note.fix or _FIX)}"))
    if note.needs_restart:
        lines.append(Text("note: the file says what the running collector cannot take up:", style="yellow"))
        lines += _some(note.needs_restart, "key", style="yellow")
    return lines


def _some(texts: list[str], noun: str, *, style: str) -> list[Text]:
    shown = [whole_line(f"  {quoted(text)}", style=style) for text in texts[:LINES_SHOWN_MAX]]
    more = len(texts) - LINES_SHOWN_MAX
    return shown + ([Text(f"  and {count(more, noun)} more", style=style)] if more > 0 else [])


def configuration_document(note: ConfigurationNote | None) -> dict[str, Any] | None:
    """The same for programs; None before the first run of a version that keeps it."""
    if note is None:
        return None
    return {
        "file": note.file,
        "loaded_at": instant(note.loaded_at),
        "refused_at": instant(note.refused_at),
        "mistakes": note.mistakes,
        "fix": note.fix,
        "needs_restart": note.needs_restart,
    }
