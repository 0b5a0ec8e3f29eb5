"""Mistakes of a section that somebody types, each with the line that it is on. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from m365watch.board.config_editor.config_changes import Change, Write
from m365watch.board.config_editor.key_uploads import Uploads, binding_of
from m365watch.config.document import WEBHOOK, Document, Unreadable, parse_document, plain_values, section_at
from m365watch.config.editor.redaction import MARK, spots
from m365watch.config.models.clouds import CLOUDS
from m365watch.config.secrets import RESPONSE, is_reference
from m365watch.config.sensitive_keys import (
    SensitiveKeys,
    destinations_of,
    key_of,
    leaves,
    read_section,
    sensitive_keys,
)
from m365watch.config.validation_report import KeyPath, show_path

Refusal = tuple[KeyPath, str]
_AGAIN = "type the secret again, or upload the certificate"
_IN_THE_FILE = "write it into the file on the machine"
_IDENTITY_ELSEWHERE = f"would send this machine's token to a server that is not Microsoft's: {_IN_THE_FILE}"


@dataclass(frozen=True, slots=True)
class Proposed:
    """A section as a page proposes it."""

    kind: str
    name: str
    text: str
    """With `MARK` in place of each stored secret that is kept."""
    original: str
    """What stands in the file at that place, secrets included; empty where nothing does."""
    was_stored: bool = False
    """Whether the text is of the history: references in it were stored with its destinations."""


def refusals(
    proposed: Proposed, file_text: str, *, suffix: str, folders: Sequence[Path], state_directory: Path
) -> list[Refusal]:
    """What the section does that a page may not: the key's path in the section, and why.

    Relative paths begin at the first of `folders`, below which records may be written, but for the state.
    """
    old = read_section(proposed.kind, proposed.name, proposed.original)
    new = read_section(proposed.kind, proposed.name, proposed.text)
    document = plain_values(parse_document(file_text, suffix=suffix))
    judging = _Judging(proposed, old, new, folders, state_directory)
    return [*judging.refusals(), *_reached_by_others(proposed.kind, resolved(new, old), document)]


def resolved(section: Document, old: Document) -> Document:
    """The section with the stored secrets of `old` in place of the marks."""
    found = _resolved(section, old)
    return found if isinstance(found, dict) else {}


def _resolved(value: object, old: object) -> object:
    if isinstance(value, dict):
        beside = old if isinstance(old, dict) else {}
        return {key: _resolved(child, beside.get(key)) for key, child in value.items()}
    if isinstance(value, list):
        padded = [*(old if isinstance(old, list) else []), *[None] * len(value)]
        return [_resolved(child, padded[place]) for place, child in enumerate(value)]
    return old if isinstance(value, str) and MARK in value else value


class _Judging:
    """Holds one proposed section against the one in the file."""

    def __init__(
        self,
        proposed: Proposed,
        old: Document,
        new: Document,
        folders: Sequence[Path],
        state_directory: Path,
    ) -> None:
        self._proposed = proposed
        self._keys: SensitiveKeys = sensitive_keys(proposed.kind)
        self._old = dict(leaves(old))
        self._new = dict(leaves(new))
        self._section = resolved(new, old)
        self._goes = destinations_of(proposed.kind, self._section)
        self._went = destinations_of(proposed.kind, old)
        self._folders = folders
        self._state = state_directory
        self._uploads = Uploads(state_directory)

    def refusals(self) -> Iterator[Refusal]:
        for path, value in self._new.items():
            if (why := self._why_not(path, value)) is not None:
                yield path, why

    def _why_not(self, path: KeyPath, value: object) -> str | None:
        """Why a page may not set the key to this; None where it may."""
        if isinstance(value, str) and MARK in value:
            return self._why_not_kept()
        if self._proposed.was_stored:
            return None
        key, is_stored = key_of(path), path in self._old and self._old[path] == value
        refers = isinstance(value, str) and ("${" in value or is_reference(value.strip()))
        if key in self._keys.folders and not refers:
            return None if is_stored else self._why_not_folder(str(value))
        is_identity = key in self._keys.identities and not _is_false(value)
        if not refers and not is_identity and key not in self._keys.files:
            return None
        if is_stored:
            return self._why_not_kept()
        if refers:
            what = "a variable" if "${" in str(value) else "an entry of the keyring"
            return (
                f"refers to {what} that this key did not refer to: type the value itself, or {_IN_THE_FILE}"
            )
        if is_identity:
            return None if _is_of_microsoft(self._goes) else _IDENTITY_ELSEWHERE
        return self._why_not_file(path, str(value))

    def _why_not_kept(self) -> str | None:
        """A stored secret goes where it went."""
        turned = [path for path in {*self._goes, *self._went} if self._goes.get(path) != self._went.get(path)]
        if not turned:
            return None
        where = show_path(min(turned, key=str))
        return f"would be sent elsewhere, as {where} is another one: {_AGAIN}, or {_IN_THE_FILE}"

    def _why_not_folder(self, text: str) -> str | None:
        try:
            real = Path(os.path.realpath(self._folders[0] / text))
        except ValueError:  # a zero, or half a letter
            return "has a character that no file's name can have: leave it out"
        state = os.path.realpath(self._state)
        if real.is_relative_to(state) or Path(state).is_relative_to(real):
            return f"lies in the state directory, or around it; give a folder apart, or {_IN_THE_FILE}"
        if any(real.is_relative_to(os.path.realpath(folder)) for folder in self._folders):
            return None
        return f"lies outside {self._folders[0]}; a page names no such folder: {_IN_THE_FILE}"

    def _why_not_file(self, path: KeyPath, text: str) -> str | None:
        place = self._uploads.find(text)
        if place is None:
            return (
                f"names a file that this key did not name: upload the file, or {_IN_THE_FILE};"
                " a secret can be typed in its place"
            )
        if self._uploads.is_bound(
            place, binding_of(self._proposed.kind, self._proposed.name, path, self._section)
        ):
            return None
        return "was uploaded for another destination or instance: upload the file again"


def _is_false(value: object) -> bool:
    return str(value).strip().lower() == "false"


def _is_of_microsoft(destinations: dict[KeyPath, str]) -> bool:
    """Whether one of Microsoft's clouds is named, and nothing else is otherwise than usual."""
    usual = destinations_of("inputs", {})
    beside = {path: value for path, value in destinations.items() if path != ("cloud",)}
    return destinations.get(("cloud",)) in CLOUDS and beside == {
        path: value for path, value in usual.items() if path != ("cloud",)
    }


def _reached_by_others(kind: str, new: Document, document: object) -> Iterator[Refusal]:
    """Secrets outside the section that follow an input's cloud: those of responses and of the webhook.

    They go to Microsoft's clouds, and to those that the file names already.
    """
    others = [path for path in (RESPONSE, WEBHOOK) if section_at(document, *path)]
    if kind != "inputs" or not others:
        return
    goes = _cloud_of(new)
    known = [_cloud_of(section_at(document, "inputs", name)) for name in section_at(document, "inputs")]
    if not _is_of_microsoft(goes) and goes not in known:
        why = f"would receive the secrets of {show_path(others[0])} as well: {_IN_THE_FILE}"
        yield (("cloud",) if "cloud" in new else ("network",), why)


def _cloud_of(section: Document) -> dict[KeyPath, str]:
    """The destinations without what concerns the section's own credential alone."""
    found = destinations_of("inputs", section)
    return {path: value for path, value in found.items() if path[0] != "credentials"}


_PATH_CHARACTERS_MAX = 1_000
_ENDS = ".:[ "
"""What follows a path in a mistake."""
_LINE = re.compile(r"line ([0-9]+), column [0-9]+: ")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong."""

    says: str
    """The key's path, what is wrong, and what would be right."""
    line: int = 0
    """In the text that was typed, counted from 1; 0: elsewhere, or nowhere."""


def mistake_of(says: str, change: Change) -> Mistake:
    """The mistake that keeps a text from being read."""
    found = _LINE.search(says)
    line = int(found[1]) if found and isinstance(change, Write) else 0
    key = re.match(r"[A-Za-z0-9_.\[\]]+(?=: )", says)
    if not line and key and isinstance(change, Write):
        line = _lines_of(change.text, ()).get(key[0], 0)
    return Mistake(says, line)


def mistakes_in(section: str, path: tuple[str, ...], mistakes: Sequence[str]) -> list[Mistake]:
    """Each of `mistakes` with the line of `section`, which stands at `path`; those of the section first."""
    lines = _lines_of(section, path)
    found = [Mistake(one, _line_of(one, lines)) for one in mistakes]
    return sorted(found, key=lambda one: (not one.line, one.line))


def _lines_of(section: str, path: tuple[str, ...]) -> dict[str, int]:
    """The line of each key, by its path as mistakes show it."""
    try:
        starts = spots(section)
    except Unreadable:
        return {}
    shown = {show_path(path): 1} if path else {}
    return shown | {show_path((*path, *keys)): section.count("\n", 0, at) + 1 for keys, at in starts}


def _line_of(mistake: str, lines: dict[str, int]) -> int:
    """That of the longest path that the mistake begins with: a key that is missing is its section's."""
    head = mistake[:_PATH_CHARACTERS_MAX]
    begun = (head[:at] for at, character in enumerate(head) if character in _ENDS)
    near = [lines[path] for path in begun if path in lines]
    return near[-1] if near else 0
