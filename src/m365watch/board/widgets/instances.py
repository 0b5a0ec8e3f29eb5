"""What the configuration's pages answer: instances with their services, an editor, past changes, a trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from m365watch.board.widgets.pieces import Empty, Way


@dataclass(frozen=True, slots=True)
class Act:
    """A button that asks for a change of the configuration, which is shown before it is made."""

    words: str
    change: str
    """The change, in JSON."""
    title: str = ""
    """What it does, for whoever asks."""


@dataclass(frozen=True, slots=True)
class ServiceShown:
    """One service of an input."""

    name: str
    state: str
    tone: str
    note: str = ""
    act: Act | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """One input or output."""

    kind: str
    name: str
    about: str
    """What it is, in a few words."""
    state: str
    tone: str
    url: str
    """Where it is edited."""
    says: str = ""
    """What is wrong with it."""
    fix: str = ""
    facts: Sequence[tuple[str, str]] = ()
    services: Sequence[ServiceShown] = ()
    acts: Sequence[Act] = ()
    copy: str = ""
    """Where another one is begun with its parameters."""
    trial: str = ""
    """What a preflight of it is asked for by; empty where it cannot be tried."""


@dataclass(frozen=True, slots=True)
class Instances:
    """Inputs or outputs, one below the other."""

    kind: ClassVar = "instances"
    rows: Sequence[Instance]
    base: str
    """The text that the buttons' changes are for."""
    new: Sequence[Way] = ()
    wrong: Sequence[str] = ()
    """Why the run does not have what the file says."""
    note: str = ""
    """When what is changed here counts, where that is not at once."""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Editor:
    """The parameters of one instance, as a text."""

    kind: ClassVar = "editor"
    of: str
    """inputs or outputs."""
    name: str
    text: str
    base: str
    is_new: bool = False
    templates: Sequence[Way] = ()
    chosen: str = ""
    back: str = "/collectors"
    note: str = ""
    """When it counts, where that is not at once."""
    uploads: Sequence[str] = ()
    """The keys whose files can be uploaded."""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class PastShown:
    """One change that was made."""

    number: int
    at: str
    by: str
    what: str
    lines: Sequence[tuple[str, str]]
    """The difference, line by line: added, removed or empty, and the text."""
    undo: Act | None = None
    anew: Way | None = None
    """Where it is put back by hand, since its secrets are kept nowhere."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """The changes that were made, the last one first."""

    kind: ClassVar = "past"
    rows: Sequence[PastShown]
    base: str
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A preflight that can be run."""

    kind: ClassVar = "trial"
    says: str
    of: str = ""
    """The instance that is tried; empty: everything."""
    base: str = ""
    empty: Empty | None = None
