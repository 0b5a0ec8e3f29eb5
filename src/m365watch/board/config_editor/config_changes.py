"""What somebody may do to the configuration, and the text that comes of it. Pure."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal, NamedTuple

import msgspec

from m365watch.common.errors import LedgerUnusable, SettingsRefused
from m365watch.config.defaults import BY_DEFAULT, COLLECTING
from m365watch.config.document import Unreadable
from m365watch.config.editor.redaction import with_secrets, without_secrets
from m365watch.config.editor.sections import has_section, put_section, section_text, set_switch, take_section
from m365watch.config.loader import load_settings
from m365watch.config.models.settings import Settings
from m365watch.config.models.values import parse_name
from m365watch.health.collector_status import read_configuration, who_collects
from m365watch.runtime.config_changes import plan_change

Kind = Literal["inputs", "outputs"]
Path = tuple[str, ...]
_IMPLICIT_LAKE = "type: lake"


class Write(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="write"):
    """An instance is written: a new one, or in the place of what it was."""

    kind: Kind
    name: str
    text: str
    is_new: bool = False


class Remove(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="remove"):
    """An instance goes."""

    kind: Kind
    name: str


class Switch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="switch"):
    """An instance, or one service of an input, is switched on or off."""

    kind: Kind
    name: str
    on: bool
    service: str = ""


class Undo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act", tag="undo"):
    """A change of the history is taken back."""

    number: int


Change = Write | Remove | Switch | Undo


class Kept(NamedTuple):
    """What the history knows of a change: the section before and after, without secrets; None: not there."""

    path: Path
    before: str | None
    after: str | None


class Changed(NamedTuple):
    """The whole text as a change makes it."""

    text: str
    path: Path
    what: str
    """In words, for history and audit trail."""


def changed_text(text: str, change: Write | Remove | Switch, *, suffix: str) -> Changed:
    """The configuration `text` after the change.

    Raises: Unreadable: the change cannot be made; the text says why.
    """
    path = (change.kind, change.name)
    there = has_section(text, path, suffix=suffix)
    if isinstance(change, Write):
        return _written(text, change, path, suffix=suffix, there=there)
    if not there:
        raise Unreadable(f"has no {'.'.join(path)}; it was renamed or removed meanwhile")
    if isinstance(change, Remove):
        return Changed(take_section(text, path, suffix=suffix), path, f"removed {_words(change)}")
    if change.service:
        return _service_switched(text, change, path, suffix=suffix)
    what = f"{'started' if change.on else 'stopped'} {_words(change)}"
    return Changed(set_switch(text, path, on=change.on, suffix=suffix), path, what)


def require_name(name: str) -> None:
    """Raises Unreadable where no instance can have the name."""
    try:
        parse_name(name)
    except ValueError:
        raise Unreadable('the name has to be 1 to 64 letters, digits, "_" and "-"') from None


def undone_text(text: str, kept: Kept, *, number: int, suffix: str) -> Changed:
    """The configuration `text` with the section of a change as it was before; secrets stay those of today.

    Raises: Unreadable: the section is not as the change left it, or needs a secret that is nowhere kept.
    """
    now = section_text(text, kept.path, suffix=suffix) if _is_there(text, kept.path, suffix) else None
    if (None if now is None else without_secrets(now)) != kept.after:
        raise Unreadable(f"{'.'.join(kept.path)} was changed again since; undo that first, or edit it")
    if kept.before == kept.after:
        raise Unreadable(
            "only a secret was changed, and secrets are kept nowhere; type the one that is right"
        )
    what = f"undid change {number}"
    if kept.before is None:
        return Changed(take_section(text, kept.path, suffix=suffix), kept.path, what)
    try:
        section = with_secrets(kept.before, now or "")
    except Unreadable:
        raise Unreadable(
            f"the secrets of {'.'.join(kept.path)} are kept nowhere; create it anew with the text"
            " of the history, and type them"
        ) from None
    return Changed(put_section(text, kept.path, section, suffix=suffix), kept.path, what)


def kept_of(old: str, new: str, path: Path, *, suffix: str) -> Kept:
    """What the history is to know of a change from `old` to `new`."""
    before, after = (
        without_secrets(section_text(text, path, suffix=suffix)) if _is_there(text, path, suffix) else None
        for text in (old, new)
    )
    return Kept(path, before, after)


def _is_there(text: str, path: Path, suffix: str) -> bool:
    return has_section(text, path, suffix=suffix)


def _written(text: str, change: Write, path: Path, *, suffix: str, there: bool) -> Changed:
    require_name(change.name)
    if change.is_new and there:
        raise Unreadable(f"{'.'.join(path)} is there already; choose another name, or edit that one")
    if not change.is_new and not there:
        raise Unreadable(f"has no {'.'.join(path)}; it was renamed or removed meanwhile")
    if not change.text.strip():
        raise Unreadable("nothing is written; begin with a template")
    if change.kind == "outputs" and not has_section(text, ("outputs",), suffix=suffix):
        # Without outputs there is a lake, which the first one that is named must not push out.
        text = put_section(text, ("outputs", "lake"), _IMPLICIT_LAKE, suffix=suffix)
    original = section_text(text, path, suffix=suffix) if there else ""
    section = with_secrets(change.text.replace("\r\n", "\n"), original)
    what = f"{'added' if change.is_new else 'edited'} {_words(change)}"
    return Changed(put_section(text, path, section, suffix=suffix), path, what)


def _service_switched(text: str, change: Switch, path: Path, *, suffix: str) -> Changed:
    service, services = change.service, (*path, "services")
    if service not in COLLECTING:
        raise Unreadable(f"{service[:40]!r} is no service; there are {', '.join(COLLECTING)}")
    if not has_section(text, services, suffix=suffix):
        # Who names one service collects that one alone: all that are collected now are named.
        named = "".join(f"{one}:\n" for one in BY_DEFAULT)
        text = put_section(text, services, named, suffix=suffix)
    what = f"{'started' if change.on else 'paused'} {service} of {_words(change)}"
    one = (*services, service)
    if _is_named(text, one, suffix):
        return Changed(set_switch(text, one, on=change.on, suffix=suffix), path, what)
    flag = f"enabled: {'true' if change.on else 'false'}"
    return Changed(put_section(text, one, flag, suffix=suffix), path, what)


def _is_named(text: str, path: Path, suffix: str) -> bool:
    try:
        section_text(text, path, suffix=suffix)
    except Unreadable:
        return False
    return True


def _words(change: Write | Remove | Switch) -> str:
    return f"{change.kind.removesuffix('s')} {change.name}"


OUTPUTS_COUNT = (
    "A running collector takes up what is changed here within seconds, once what is in flight is finished. "
    "A new output gets what is fetched from then on. "
    "These pages turn to a lake that is added or moved once it holds records."
)
_AT_ONCE = "The running collector takes it up within seconds."
_ANEW = (
    "What is in flight is finished first, which takes seconds. An output that is taken out, or is new, misses"
    " what is fetched without it; what all others get is neither lost nor comes twice."
)
_NEVER = "The running collector does not read its file again: it counts once that is restarted."
_ASKED = "The collector does not watch its file (globals.watch_configuration): send it SIGHUP."
_PAUSED = "Nothing is lost if it is started again within 7 days, for as long as Microsoft serves the content."
_REMOVED = "What was collected stays in the lake and at every output."


def words_of_effect(settings: Settings, change: Change, new: Settings | None) -> list[str]:
    """What a run does with it, a sentence each; none for a change that cannot be made."""
    if new is None:
        return []
    said = _run_words(settings, new)
    if isinstance(change, Switch) and not change.on and change.kind == "inputs":
        said.append(_PAUSED)
    if isinstance(change, Remove):
        said.append(_REMOVED)
    return said


def _run_words(settings: Settings, new: Settings) -> list[str]:
    """What is taken up at once, and what a run cannot take up while it lasts."""
    if who_collects(settings) is None:
        return ["No collector is seen to run; the next one begins with it."]
    try:
        now = load_settings(settings.path, environment={}, for_reading=True)
    except SettingsRefused:
        now = settings
    if _reads_once(settings):
        return [_NEVER]
    planned = plan_change(now, new)
    said = [_AT_ONCE if new.watches_configuration else _ASKED] if planned.text else []
    if planned.renews:
        said.append(_ANEW)
    if planned.needs_restart:
        waits = ", ".join(line.removesuffix("; needs a restart") for line in planned.needs_restart)
        said.append(f"The collector has to be restarted for it: {waits}.")
    return said


def _reads_once(settings: Settings) -> bool:
    """Whether the collector that runs has read its file and does so no more, as that of a demo."""
    with suppress(LedgerUnusable):
        return read_configuration(settings) is None
    return False
