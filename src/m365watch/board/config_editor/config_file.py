"""The configuration's file as the board reads, judges and changes it.

Whoever changes something says which text they saw: its `base`. Where the file is another one by then,
nothing is changed, and they are told what is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from m365watch.board.config_editor.change_history import PastChange, find_past, forget_past, keep_past
from m365watch.board.config_editor.change_validation import (
    Mistake,
    Proposed,
    mistake_of,
    mistakes_in,
    refusals,
    resolved,
)
from m365watch.board.config_editor.config_changes import (
    Change,
    Changed,
    Kept,
    Undo,
    Write,
    changed_text,
    kept_of,
    require_name,
    undone_text,
)
from m365watch.board.config_editor.internal_addresses import inner_addresses
from m365watch.board.config_editor.key_uploads import Uploads, binding_of
from m365watch.common.errors import NeedsOperator, OutputUnusable, SettingsRefused
from m365watch.config.config_file import FileText, read_whole, replace_whole
from m365watch.config.document import Unreadable, parse_document, plain_values
from m365watch.config.editor.redaction import plain_variables, scalars, secret_paths, show_difference
from m365watch.config.editor.sections import has_section, put_section, section_text
from m365watch.config.editor.tenants import check_text
from m365watch.config.editor.text_spans import locate
from m365watch.config.models.settings import Settings
from m365watch.config.sensitive_keys import SECTION_SUFFIX, read_section, sensitive_keys
from m365watch.config.validation_report import KeyPath, show_path
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.outputs.lake.spec import LakeSection, require_in_step

BASES_MAX = 32
"""Texts that are remembered, so that it can be said what has changed since."""
HIDDEN_CHARACTERS_MIN = 4
"""Of a variable's value; a shorter one is no secret, and stands in many a word."""
TYPED_CHARACTERS_MAX = 65_536
"""Of the section of one instance, that of some 1,500 tenants; a longer one is written in the file itself."""
_TOO_LONG = f"the text is longer than {TYPED_CHARACTERS_MAX:,} characters; write it into the file itself"
IN_TWO_FILES = "The inputs are in a file of Devo's collector server, which hands it over: change them there."


class ChangedMeanwhile(Exception):
    """The file is not the one that a change was made for."""

    def __init__(self, difference: str) -> None:
        """`difference` is what is another by now; empty where that is not known."""
        super().__init__("the file was changed meanwhile")
        self.difference = difference


@dataclass(frozen=True, slots=True)
class Current:
    """The file as it is."""

    file: FileText
    base: str

    def section(self, path: tuple[str, ...]) -> str:
        """What stands at `path`; empty where nothing does. Raises: Unreadable."""
        there = has_section(self.file.text, path, suffix=self.file.suffix)
        return section_text(self.file.text, path, suffix=self.file.suffix) if there else ""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a change would come to."""

    changed: Changed | None
    """None: it cannot be made."""
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[str, ...] = ()
    """What is odd, or right only elsewhere; none of it keeps a change from being made."""
    difference: str = ""
    settings: Settings | None = None
    """The settings that the file would stand for, secrets unread; None with mistakes."""


@dataclass
class ConfigurationDesk:
    """Reads and changes one file at a time."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _bases: OrderedDict[str, str] = field(default_factory=OrderedDict, repr=False)
    """Texts with their secrets, which leave this process only as a difference, in stars."""
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def read(self, settings: Settings) -> Current:
        """The file as it is. Raises: SettingsRefused: it cannot be read."""
        file = read_whole(settings.path)
        # With a key of this process, so that nobody can try secrets against it.
        base = hmac.new(self._key, file.content, hashlib.sha256).hexdigest()[:32]
        self._bases[base] = file.text
        self._bases.move_to_end(base)
        while len(self._bases) > BASES_MAX:
            self._bases.popitem(last=False)
        return Current(file, base)

    def settings_now(self, settings: Settings) -> Settings:
        """The settings that the file stands for now, secrets unread; those of two files stay as they are.

        Raises: SettingsRefused.
        """
        current = self.read(settings)
        if _is_in_two_files(settings, current):
            return settings
        return check_text(current.file, current.file.text, environment=self.environment)

    def judge(self, settings: Settings, change: Change, base: str) -> Judged:
        """What the change would come to; nothing is changed.

        Raises: ChangedMeanwhile; SettingsRefused: the file cannot be read.
        """
        current = self._current(settings, base)
        if isinstance(change, Write) and len(change.text) > TYPED_CHARACTERS_MAX:
            return Judged(None, (Mistake(_TOO_LONG),))
        try:
            changed = self._changed(settings, current, change)
            refused = self._refused(settings, current, change, changed.path)
        except Unreadable as error:
            return Judged(None, (mistake_of(str(error), change),))
        if refused:
            difference = _difference(current.file.text, changed.text, current.file)
            return Judged(changed, tuple(refused), difference=difference)
        return self._checked(current, change, changed)

    def apply(self, settings: Settings, change: Change, base: str, *, by: str, at_s: float) -> PastChange:
        """Make the change, and keep it in the history.

        Raises: ChangedMeanwhile; SettingsRefused: it has mistakes; NeedsOperator: it cannot be written.
        """
        with self._turn:
            judged = self.judge(settings, change, base)
            if judged.changed is None or judged.mistakes:
                raise SettingsRefused([one.says for one in judged.mistakes], where=str(settings.path))
            current = self._current(settings, base)
            kept = kept_of(
                current.file.text, judged.changed.text, judged.changed.path, suffix=current.file.suffix
            )
            undoes = change.number if isinstance(change, Undo) else 0
            past = PastChange(
                0, at_s, by, judged.changed.what, *kept, difference=judged.difference, undoes=undoes
            )
            past = keep_past(settings.state_directory, past)
            try:
                replace_whole(current.file, judged.changed.text)
            except NeedsOperator:
                forget_past(settings.state_directory, past.number)
                raise
            return past

    def upload(self, settings: Settings, change: Write, base: str, files: Mapping[str, bytes]) -> str:
        """The change's text with each file in place, kept for the destinations that the text has.

        `files` are by their keys in the section: `credentials.certificate_file`.

        Raises: ChangedMeanwhile; SettingsRefused; Unreadable: the text cannot be read, or no such file is
            wanted; NeedsOperator: a file cannot be kept.
        """
        current = self._current(settings, base)
        keys, uploads, text = sensitive_keys(change.kind), Uploads(settings.state_directory), change.text
        require_name(change.name)
        paths = {tuple(key.split(".")): content for key, content in files.items()}
        if not paths.keys() <= keys.files:
            raise Unreadable(f"a file can be uploaded for {', '.join(sorted(map('.'.join, keys.files)))}")
        old = read_section(change.kind, change.name, current.section((change.kind, change.name)))
        # An authority's certificates first: they are among the destinations of the others.
        for path in sorted(paths, key=lambda path: (path not in keys.destinations, path)):
            section = resolved(read_section(change.kind, change.name, text), old)
            binding = binding_of(change.kind, change.name, path, section)
            place = uploads.keep(change.kind, change.name, path, paths[path], binding=binding)
            text = put_section(text, path, json.dumps(place), suffix=SECTION_SUFFIX)
        return text

    def touches_outputs(self, settings: Settings, change: Change | None) -> bool:
        """Whether the change is one of an output."""
        if change is None:
            return False
        if not isinstance(change, Undo):
            return change.kind == "outputs"
        past = find_past(settings.state_directory, change.number)
        return past is not None and past.path[:1] == ("outputs",)

    def inner_addresses(self, current: Current, changed: Changed) -> list[str]:
        """Addresses inside that the changed section leads to and the file does not name, a line each."""
        file = current.file
        if not has_section(changed.text, changed.path[:2], suffix=file.suffix):
            return []
        kind, name = changed.path[:2]
        section = read_section(kind, name, section_text(changed.text, (kind, name), suffix=file.suffix))
        document = plain_values(parse_document(file.text, suffix=file.suffix))
        return inner_addresses(kind, name, section, document if isinstance(document, dict) else {})

    def hiding(self, settings: Settings) -> Callable[[str], str]:
        """Puts `${NAME}` in place of what the variables hold that the file names, but for secrets.

        Those are in no answer, and compared with none: one that names a guess would tell whether it is right.
        """
        values: dict[str, str] = {}
        with suppress(SettingsRefused, Unreadable):
            for name in sorted(plain_variables(read_whole(settings.path).text)):
                values[self.environment.get(name, "")] = f"${{{name}}}"
        hidden = sorted((one for one in values if len(one) >= HIDDEN_CHARACTERS_MIN), key=len, reverse=True)

        def hide(words: str) -> str:
            for value in hidden:
                words = words.replace(value, values[value])
            return words

        return hide

    def _current(self, settings: Settings, base: str) -> Current:
        current = self.read(settings)
        if not hmac.compare_digest(current.base, base):
            file, known = current.file, self._bases.get(base)
            difference = "" if known is None else _difference(known, file.text, file)
            raise ChangedMeanwhile(difference)
        if _is_in_two_files(settings, current):
            raise SettingsRefused([IN_TWO_FILES], where=str(settings.path))
        return current

    def _changed(self, settings: Settings, current: Current, change: Change) -> Changed:
        text, suffix = current.file.text, current.file.suffix
        if not isinstance(change, Undo):
            return changed_text(text, change, suffix=suffix)
        return undone_text(text, _kept_under(settings, change.number), number=change.number, suffix=suffix)

    def _refused(
        self, settings: Settings, current: Current, change: Change, path: tuple[str, ...]
    ) -> list[Mistake]:
        """What a page may not do."""
        section = change.text if isinstance(change, Write) else None
        if isinstance(change, Undo):
            section = _kept_under(settings, change.number).before
        if section is None:
            return []
        found = refusals(
            Proposed(path[0], path[1], section, current.section(path), was_stored=isinstance(change, Undo)),
            current.file.text,
            suffix=current.file.suffix,
            folders=(current.file.path.parent, settings.path.parent, *_lake_folders(settings)),
            state_directory=settings.state_directory,
        )
        return mistakes_in(section, path, [f"{show_path((*path, *key))}: {why}" for key, why in found])

    def _checked(self, current: Current, change: Change, changed: Changed) -> Judged:
        file = current.file
        section = change.text if isinstance(change, Write) else ""
        difference = _difference(file.text, changed.text, file)
        notes = _secret_notes(current.section(changed.path), changed, file.suffix)
        try:
            settings = check_text(file, changed.text, environment=self.environment)
        except SettingsRefused as error:
            before = self._mistakes_before(file)
            new = [one for one in error.mistakes if one not in before]
            old = [f"{one} (it was so before)" for one in error.mistakes if one in before]
            if new:
                mistakes = mistakes_in(section, changed.path, new)
                return Judged(changed, tuple(mistakes), tuple(old), difference)
            return Judged(changed, (), (*notes, *old), difference)
        if mistake := self._out_of_step(file, settings, changed.path):
            return Judged(changed, tuple(mistakes_in(section, changed.path, [mistake])), (), difference)
        notes += _about(settings, changed.path) + self._seen_here(file, changed)
        return Judged(changed, (), tuple(notes), difference, settings)

    def _out_of_step(self, file: FileText, settings: Settings, path: tuple[str, ...]) -> str:
        """Why the collector would not begin with a lake that is now elsewhere; empty where it would."""
        lake = _lake_at(settings, path)
        if lake is None:
            return ""
        with suppress(SettingsRefused):
            before = _lake_at(check_text(file, file.text, environment=self.environment), path)
            if before is not None and before.folder == lake.folder:
                return ""
        try:
            require_in_step(settings.state_directory / LEDGER_FILE, lake, collector=settings.collector_name)
        except OutputUnusable as error:
            return f"{show_path((*path, 'config', 'directory'))}: {error.what}; {error.fix}"
        return ""

    def _mistakes_before(self, file: FileText) -> frozenset[str]:
        try:
            check_text(file, file.text, environment=self.environment)
        except SettingsRefused as error:
            return frozenset(error.mistakes)
        return frozenset()

    def _seen_here(self, file: FileText, changed: Changed) -> list[str]:
        """What a run would miss that sees what this process sees: files, variables, keys."""
        try:
            check_text(file, changed.text, environment=self.environment, for_reading=False)
        except SettingsRefused as error:
            return [f"as the board sees it, {one}" for one in error.mistakes]
        return []


def _lake_at(settings: Settings, path: tuple[str, ...]) -> LakeSection | None:
    found = (one for one in settings.outputs if path[:2] == ("outputs", one.name))
    return next((one for one in found if isinstance(one, LakeSection)), None)


def _kept_under(settings: Settings, number: int) -> Kept:
    past = find_past(settings.state_directory, number)
    if past is None:
        raise Unreadable(f"change {number} is not in the history any more")
    return past.kept


def _is_in_two_files(settings: Settings, current: Current) -> bool:
    try:
        root = locate(current.file.text, suffix=current.file.suffix)
    except Unreadable:
        return False
    return bool(settings.tenants) and root is not None and root.member("inputs") is None


def _lake_folders(settings: Settings) -> list[Path]:
    return [one.folder for one in settings.outputs if isinstance(one, LakeSection)]


def _difference(old: str, new: str, file: FileText) -> str:
    return show_difference(old, new, name=file.path.name, suffix=file.suffix)


def _secret_notes(original: str, changed: Changed, suffix: str) -> list[str]:
    """Secrets that are others than before: in a difference they are stars on both sides."""
    if not has_section(changed.text, changed.path, suffix=suffix):
        return []
    new = section_text(changed.text, changed.path, suffix=suffix)
    written = [path for path in secret_paths(new) if _at(new, path) != _at(original, path)]
    return [f"{show_path((*changed.path, *path))}: a new secret, which is shown nowhere" for path in written]


def _at(section: str, path: KeyPath) -> str | None:
    return scalars(section).get(path)


def _about(settings: Settings, path: tuple[str, ...]) -> list[str]:
    """The warnings that the checker has for the section."""
    shown = show_path(path)
    return [one for one in settings.warnings if one.startswith(shown) and "switched off" not in one]
