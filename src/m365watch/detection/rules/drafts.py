"""Rules between their documents and their use: what was read of them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from m365watch.detection.rules.extension import Extension
from m365watch.detection.rules.sigma_filters import FilterDraft
from m365watch.detection.rules.validation.diagnostics import Fault, Places
from m365watch.detection.rules.validation.mistake import Mistake, mistake_at
from m365watch.detection.rules.validation.rule_references import names_in, proofread_references

if TYPE_CHECKING:
    from sigma.correlations import SigmaCorrelationRule
    from sigma.rule import SigmaRule

Lists = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Written:
    """A document as it stands in its file."""

    path: str
    content: dict[str, Any]
    places: Places
    is_whole: bool = True
    """Whether it is a rule by itself, and not one of several that an `action` joins."""

    @property
    def title(self) -> str:
        """What it calls itself."""
        title = self.content.get("title", "")
        return title if isinstance(title, str) else ""


@dataclass(slots=True)
class Draft:
    """A rule between parsing and use."""

    written: Written
    parsed: SigmaRule | SigmaCorrelationRule
    extension: Extension
    lists: Mapping[str, tuple[str, ...]]
    id: str = ""
    is_packed: bool = False
    """Whether it came along; a rule of the user's with its id takes its place."""
    is_tried: bool = False
    """Whether it is only looked at what it finds; it takes the place of any other with its id."""

    def outranks(self, other: Draft) -> bool:
        """Whether it takes the place of another with its id."""
        return (self.is_tried, not self.is_packed) > (other.is_tried, not other.is_packed)

    @property
    def path(self) -> str:
        """The file that it stands in, as it is shown."""
        return self.written.path


@dataclass(slots=True)
class Reading:
    """What has been read so far."""

    lists: Mapping[str, tuple[str, ...]]
    known: Mapping[str, tuple[str, ...]]
    """Lists that are there where no folder has one of the name."""
    drafts: list[Draft] = field(default_factory=list)
    filters: list[tuple[Written, FilterDraft]] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    broken: list[Written] = field(default_factory=list)
    """Documents with mistakes of their own."""
    is_packed: bool = False
    """Whether the place that is being read is one of the packs."""
    is_tried: bool = False
    """Whether its rules are only looked at what they find."""

    def complain(self, path: str, rule: str, text: str, *, line: int = 0, is_lesser: bool = False) -> None:
        """Keep one line; of one that `is_lesser` no rule is left out."""
        self.mistakes.append(mistake_at(path, rule, text, line=line, is_lesser=is_lesser))

    def lost_references(self, written: Written, names: Iterable[str]) -> list[Fault]:
        """Each rule that a document names and that there is not."""
        broken = {name for one in self.broken for name in names_in(one.content)}
        return [*proofread_references(written.content, names, broken)]

    def complain_of(self, written: Written, *faults: Fault) -> None:
        """Keep a line for each of a document's faults."""
        for one in faults:
            line = written.places.line_of(one.where)
            self.complain(written.path, written.title, str(one), line=line)


def all_faults(written: Written, lists: Lists, found: list[Fault]) -> list[Fault]:
    """All that is wrong with a document of which something is known to be wrong."""
    if not written.is_whole:
        return found
    from m365watch.detection.rules.validation.rule_document import proofread

    every = proofread(written.content, lists) or found
    return [*every, *extension_of(written.content)[1]]


def extension_of(content: Mapping[str, Any]) -> tuple[Extension, list[Fault]]:
    """A document's key `m365watch`, and what is wrong in it."""
    # The library that checks keys takes its time to import, and rules that come along parsed do without.
    from m365watch.detection.rules.extension_text import parse_extension
    from m365watch.detection.rules.validation.extension_section import proofread_whole

    extension, faults = parse_extension(content.get("m365watch"))
    return extension, faults or [*proofread_whole(content, extension)]
