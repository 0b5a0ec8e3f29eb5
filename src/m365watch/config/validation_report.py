"""What is wrong or odd in one configuration, each thing with the path of its key."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from m365watch.config.models.values import NAME

KeyPath = tuple[str | int, ...]
"""The way to a key from the top of the file; a number is a place in a list."""

SECRET_KEYS = frozenset(
    {
        "auth_id",
        "certificate_password",
        "client_secret",
        "key_password",
        "password",
        "private_key",
        "proxy_password",
        "routing_key",
        "signing_secret",
        "token",
        "webhook_url",
    }
)
"""Keys whose value is never shown."""
_SECTIONS_WITH_SECRETS = {
    *(("credentials",), ("network",), ("second",)),
    *(("webhook",), ("board",), ("entra",)),
}

_SHOWN_CHARACTERS_MAX = 60
# Entra makes secrets of this shape; people paste them under the wrong key. It is looked for where a run of
# its characters begins: at each of them, a long run would take time by its square.
_ENTRA_SECRET = re.compile(r"(?<![A-Za-z0-9_.~-])[A-Za-z0-9_.~-]{3,}Q~[A-Za-z0-9_.~-]{20,}")
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "whole number"),
    (float, "number"),
    (str, "text"),
)


class Origin(NamedTuple):
    """Where something of the document was really written."""

    file: str | None
    """The file, where the document was put together from two; None for the only one."""
    path: KeyPath


@dataclass
class Report:
    """The mistakes and warnings found so far; the first mistake of a key is the one that counts."""

    mistakes: dict[KeyPath, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    hidden: set[KeyPath] = field(default_factory=set)
    """Keys whose value came from the environment and is therefore not shown."""
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    """What was written under another key, or in another file, than where the document has it."""

    def show(self, path: KeyPath) -> str:
        """The path as whoever wrote the file knows it."""
        for length in range(len(path), 0, -1):
            if (origin := self.origins.get(path[:length])) is not None:
                shown = show_path((*origin.path, *path[length:]))
                return f"{origin.file}: {shown}" if origin.file else shown
        return show_path(path)

    def move(self, old: KeyPath, new: KeyPath) -> None:
        """Take note that what was written at `old` is now at `new`; mistakes found there go along."""
        for length in range(len(old), 0, -1):
            if (origin := self.origins.get(old[:length])) is not None:
                self.origins[new] = Origin(origin.file, (*origin.path, *old[length:]))
                break
        else:
            self.origins[new] = Origin(None, old)
        for path in [path for path in self.mistakes if path[: len(old)] == old]:
            self.mistakes[(*new, *path[len(old) :])] = self.mistakes.pop(path)
        for path in [path for path in self.hidden if path[: len(old)] == old]:
            self.hidden.add((*new, *path[len(old) :]))

    def refuse(self, path: KeyPath, why: str) -> None:
        """Add one mistake: `why` says what is wrong and what would be right."""
        self.mistakes.setdefault(path, why)

    def refuse_value(self, path: KeyPath, value: object, why: str) -> None:
        """Add one mistake that starts with the value as far as it may be shown."""
        self.refuse(path, f"{self._show(path, value)} {why}")

    def warn(self, path: KeyPath, why: str) -> None:
        """Add one warning: the file can be used, but not quite as it reads."""
        self.warnings.append(self._line(path, why))

    def lines(self) -> list[str]:
        """One line per mistake, sorted by path, so that those of one section stand together."""
        found = sorted(self.mistakes.items(), key=lambda mistake: self.show(mistake[0]))
        return [self._line(path, why) for path, why in found]

    def _line(self, path: KeyPath, why: str) -> str:
        return f"{self.show(path)}: {why}" if path else why

    def _show(self, path: KeyPath, value: object) -> str:
        secret = path in self.hidden or not SECRET_KEYS.isdisjoint(path)
        # A text where the whole section should be may well be the secret itself.
        secret = secret or path[-1:] in _SECTIONS_WITH_SECRETS
        # People write a password into a proxy's address; in one that is malformed it may stand anywhere.
        secret = secret or path[-1:] == ("proxy",)
        return show_value(value, secret=secret)


def show_value(value: object, *, secret: bool = False) -> str:
    """The value and its kind, on one line: `"<tenant>" (text)`, `a list`, `*** (text)`."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing (null)"
    kind = next((name for type_, name in _KINDS if isinstance(value, type_)), type(value).__name__)
    return f"{'***' if secret else _show_scalar(value)} ({kind})"


def hide_secrets(text: str) -> str:
    """The text with stars in place of whatever has the shape of Entra's secrets."""
    return _ENTRA_SECRET.sub("***", text)


def show_path(path: KeyPath) -> str:
    """The path as it is written in mistakes: `inputs.office365.credentials.tenant_id[1]`."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            name = part if NAME.fullmatch(part) else _show_text(part)
            shown += f".{name}" if shown else name
    return shown


def _show_scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "***" if _ENTRA_SECRET.search(value) else _show_text(value)
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    return repr(value) if isinstance(value, int | float) else "a value"


def _show_text(text: str) -> str:
    cut = text[:_SHOWN_CHARACTERS_MAX]
    # Escapes keep control characters and reversed writing off the reader's terminal.
    shown = json.dumps(cut, ensure_ascii=not cut.isprintable())
    return shown if cut == text else f"{shown}..."
