"""The rules that are in force: packs that come along, and the user's own directories.

Every mistake of every file is told in one line with the file and the key; a rule with a mistake is
left out, and the others work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from m365watch.config.files import read_small_file
from m365watch.detect.compile import compile_condition
from m365watch.detect.condition import Condition, list_fields, with_unless
from m365watch.detect.extension import Extension, Severity
from m365watch.detect.extension_text import parse_extension
from m365watch.detect.filters import FilterDraft, apply_filter
from m365watch.detect.misread import MISREAD, reason_of
from m365watch.detect.proof.fault import Fault, Places
from m365watch.detect.proof.fields import is_unknown, no_such_field
from m365watch.detect.proof.mistake import Mistake, in_order, mistake_at
from m365watch.detect.proof.patterns import proofread_patterns
from m365watch.detect.proof.references import names_in, proofread_references
from m365watch.detect.proof.said import fault_of
from m365watch.detect.proof.wholes import proofread_whole
from m365watch.detect.rule import Rule
from m365watch.values import dataclass

if TYPE_CHECKING:
    from sigma.correlations import SigmaCorrelationRule
    from sigma.rule import SigmaRule

    from m365watch.detect.documents import Document

Lists = Mapping[str, tuple[str, ...]]

PACKS_DIRECTORY = Path(__file__).parent / "packs"
FILE_BYTES_MAX = 1_048_576
"""The largest file of rules."""
LIST_BYTES_MAX = 64 * 1_048_576
"""The largest file of a list: some millions of addresses."""
FILES_MAX = 20_000
RULES_MAX = 20_000
OWN_DOMAINS = "internal_domains"
"""What SigmaHQ's rules call the organisation's own domains."""
NO_PLACE = "there is no such file or directory"
_SUFFIXES = {".yml", ".yaml"}


@dataclass(frozen=True, slots=True)
class Library:
    """The rules in force, and what is wrong with those that are not."""

    rules: tuple[Rule, ...] = ()
    mistakes: tuple[Mistake, ...] = ()

    def find(self, name: str) -> list[Rule]:
        """The rules of that id, name, number in the catalogue, alias or title, in any case."""
        wanted = name.lower()
        return [rule for rule in self.rules if wanted in {one.lower() for one in rule.names}]

    def by_id(self) -> dict[str, Rule]:
        """Each rule by its id."""
        return {rule.id: rule for rule in self.rules}


@dataclass(frozen=True, slots=True)
class _Written:
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
class _Draft:
    """A rule between parsing and use."""

    written: _Written
    parsed: SigmaRule | SigmaCorrelationRule
    extension: Extension
    lists: Mapping[str, tuple[str, ...]]
    id: str = ""
    is_packed: bool = False
    """Whether it came along; a rule of the user's with its id takes its place."""

    @property
    def path(self) -> str:
        """The file that it stands in, as it is shown."""
        return self.written.path


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    lists: Mapping[str, tuple[str, ...]]
    known: Mapping[str, tuple[str, ...]]
    """Lists that are there where no folder has one of the name."""
    drafts: list[_Draft] = field(default_factory=list)
    filters: list[tuple[_Written, FilterDraft]] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    broken: list[_Written] = field(default_factory=list)
    """Documents with mistakes of their own."""
    is_packed: bool = False
    """Whether the place that is being read is one of the packs."""

    def complain(self, path: str, rule: str, text: str, *, line: int = 0) -> None:
        """Keep one line."""
        self.mistakes.append(mistake_at(path, rule, text, line=line))

    def lost_references(self, written: _Written, names: Iterable[str]) -> list[Fault]:
        """Each rule that a document names and that there is not."""
        broken = {name for one in self.broken for name in names_in(one.content)}
        return [*proofread_references(written.content, names, broken)]

    def complain_of(self, written: _Written, *faults: Fault) -> None:
        """Keep a line for each of a document's faults."""
        for one in faults:
            line = written.places.line_of(one.where)
            self.complain(written.path, written.title, str(one), line=line)


def list_packs() -> list[str]:
    """The names of the packs that come along."""
    if not PACKS_DIRECTORY.is_dir():
        return []
    return sorted(path.name for path in PACKS_DIRECTORY.iterdir() if path.is_dir() and path.name[:1] != "_")


def load_packs(
    names: Iterable[str] = (), *, directories: Iterable[Path] = (), lists: Mapping[str, tuple[str, ...]] = {}
) -> Library:
    """The rules of these packs (all where none is named) and directories; `lists` replaces their lists."""
    chosen = list(names) or list_packs()
    return load_library([*(PACKS_DIRECTORY / name for name in chosen), *directories], lists=lists)


def load_beside_packs(places: Sequence[Path]) -> Library:
    """The rules of these places alone, which may name rules of the packs as in a run."""
    if any(place.resolve().is_relative_to(PACKS_DIRECTORY) for place in places):
        return load_library(places)
    packed = {(rule.id, rule.path) for rule in load_packs().rules}
    library = load_packs(directories=places)
    return replace(library, rules=tuple(one for one in library.rules if (one.id, one.path) not in packed))


def load_library(
    places: Iterable[Path],
    *,
    lists: Mapping[str, tuple[str, ...]] = {},
    own_domains: Iterable[str] = (),
) -> Library:
    """The rules of these files and directories; a directory is searched for .yml and .yaml at any depth.

    The folder `lists` of a directory has the texts that its rules name with the modifier `expand`, a
    line each. A rule's id is its own; one without gets an id of its file and title. `own_domains` are what
    rules of others call %internal_domains%.
    """
    reading = _Reading(lists, {OWN_DOMAINS: tuple(sorted(own_domains))})
    for place in places:
        reading.is_packed = place.is_relative_to(PACKS_DIRECTORY)
        _read_place(place, reading)
    rules = _finish(reading)
    return Library(tuple(rules), tuple(in_order(reading.mistakes)))


def _read_place(place: Path, reading: _Reading) -> None:
    if place.is_file():
        _read_file(place, place.name, reading, _lists_beside(place.parent, reading))
        return
    if not place.is_dir():
        reading.complain(str(place), "", NO_PLACE)
        return
    lists = _lists_beside(place, reading)
    paths = sorted(path for path in place.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    if len(paths) > FILES_MAX:
        reading.complain(str(place), "", f"has more than {FILES_MAX} files of rules; the rest is left out")
    for path in paths[:FILES_MAX]:
        _read_file(path, str(path.relative_to(place.parent)), reading, lists)


def _lists_beside(folder: Path, reading: _Reading) -> dict[str, tuple[str, ...]]:
    return {**reading.known, **_read_lists(folder / "lists", reading), **reading.lists}


def _read_lists(directory: Path, reading: _Reading) -> dict[str, tuple[str, ...]]:
    found = {}
    if directory.is_dir():
        for path in sorted(directory.glob("*.txt")):
            try:
                found[path.stem] = read_list(path)
            except (OSError, ValueError) as error:
                reading.complain(str(path), "", reason_of(error))
    return found


def read_list(path: Path) -> tuple[str, ...]:
    """The lines of a list, without blanks around, empty lines and what follows a # at a line's start.

    Raises: FileNotFoundError, ValueError.
    """
    content, _ = read_small_file(path, bytes_max=LIST_BYTES_MAX)
    if len(content) > LIST_BYTES_MAX:
        raise ValueError(f"is larger than {LIST_BYTES_MAX} bytes")
    lines = (line.strip() for line in content.decode("utf-8", "replace").splitlines())
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def _read_file(path: Path, shown: str, reading: _Reading, lists: Mapping[str, tuple[str, ...]]) -> None:
    import yaml

    from m365watch.detect.documents import load_documents, mistake_of

    try:
        documents = list(load_documents(_read_text(path)))
    except yaml.YAMLError as error:
        line, said = mistake_of(error)
        reading.complain(shown, "", f"is no YAML: {said}; mend it from here on", line=line)
        return
    except (OSError, ValueError, RecursionError) as error:
        reading.complain(shown, "", reason_of(error))
        return
    for group in _group_documents(documents, shown, reading):
        _read_rule(group, reading, lists)


def _read_text(path: Path) -> bytes:
    content, _ = read_small_file(path, bytes_max=FILE_BYTES_MAX)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"is larger than {FILE_BYTES_MAX} bytes")
    return content


def _group_documents(documents: list[Document], shown: str, reading: _Reading) -> list[list[_Written]]:
    """The documents that are parsed together: all where one has an `action`, otherwise each by itself."""
    found: list[_Written] = []
    for one in documents:
        if not isinstance(one.content, dict):
            told = "is no map of keys and values; begin a rule with `title: `"
            reading.complain(shown, "", told, line=one.line)
            continue
        written = _Written(shown, one.content, one.places)
        line, twice = one.twice
        if twice:
            reading.complain(shown, written.title, twice, line=line)
        else:
            found.append(written)
    if any("action" in one.content for one in found):
        return [[replace(one, is_whole=False) for one in found]]
    return [[one] for one in found]


def _read_rule(group: list[_Written], reading: _Reading, lists: Mapping[str, tuple[str, ...]]) -> None:
    """Keep what the documents say as drafts, or all that is wrong with them."""
    from sigma.collection import SigmaCollection

    first = group[0]
    faults = [fault for one in group for fault in proofread_patterns(one.content)]
    if not faults:
        try:
            parsed = SigmaCollection.from_dicts(
                [one.content for one in group],
                collect_errors=True,
                collect_filters=True,
                resolve_references=False,
            )
            faults = [fault_of(error) for error in parsed.errors]
        except MISREAD as error:
            faults = [fault_of(error)]
    if faults:
        reading.complain_of(first, *_all_faults(first, lists, faults))
        reading.broken += group
        return
    complain = partial(_complain, reading, first)
    reading.filters += [(first, FilterDraft(one, lists, complain)) for one in parsed.filters]
    for rule in parsed.rules:
        extension, faults = _extension_of(_content_of(rule, first))
        if faults:
            reading.complain_of(first, *faults)
            reading.broken.append(first)
            continue
        identity = _id_of(rule, first.path)
        reading.drafts.append(_Draft(first, rule, extension, lists, identity, reading.is_packed))


def _complain(reading: _Reading, written: _Written, lists: Lists, fault: Fault, *, alone: bool) -> None:
    """Keep what is wrong with a filter; `alone` where nothing else can be wrong with it."""
    reading.complain_of(written, *([fault] if alone else _all_faults(written, lists, [fault])))


def _all_faults(written: _Written, lists: Lists, found: list[Fault]) -> list[Fault]:
    """All that is wrong with a document of which something is known to be wrong."""
    if not written.is_whole:
        return found
    from m365watch.detect.proof.proofreading import proofread

    every = proofread(written.content, lists) or found
    return [*every, *_extension_of(written.content)[1]]


def _content_of(rule: SigmaRule | SigmaCorrelationRule, written: _Written) -> dict[str, Any]:
    """What a rule's document says; the half of it that `action` leaves of it where it has joined several."""
    if written.is_whole:
        return written.content
    detection = getattr(rule, "detection", None)
    return {
        "m365watch": rule.custom_attributes.get("m365watch"),
        "detection": dict.fromkeys(detection.detections) if detection is not None else {},
    }


def _extension_of(content: Mapping[str, Any]) -> tuple[Extension, list[Fault]]:
    """A document's key `m365watch`, and what is wrong in it."""
    extension, faults = parse_extension(content.get("m365watch"))
    return extension, faults or [*proofread_whole(content, extension)]


def _id_of(rule: SigmaRule | SigmaCorrelationRule, shown: str) -> str:
    if rule.id is not None:
        return str(rule.id)
    return str(uuid5(NAMESPACE_URL, f"m365watch:{shown}:{rule.name or rule.title}"))


def _finish(reading: _Reading) -> list[Rule]:
    """The rules of all drafts, each referred to by whatever file."""
    drafts: dict[str, _Draft] = {}
    names: dict[str, str] = {}
    for draft in reading.drafts[:RULES_MAX]:
        other = drafts.get(draft.id)
        if other is not None and other.is_packed and not draft.is_packed:
            draft.lists = {**other.lists, **draft.lists}
        elif other is not None:
            told = f"{draft.id} is also that of a rule in {other.path}; give one of them an id of its own"
            reading.complain_of(draft.written, Fault(("id",), told))
            continue
        drafts[draft.id] = draft
        names[draft.id] = draft.id
        if draft.parsed.name:
            names.setdefault(draft.parsed.name, draft.id)
    for written in tuple(reading.broken):
        reading.complain_of(written, *reading.lost_references(written, names))
    rules: dict[str, Rule] = {}
    for draft in drafts.values():
        rule = _make_rule(draft, names, reading)
        if rule is not None:
            rules[rule.id] = rule
    for written, one in reading.filters:
        rules = apply_filter(one, rules, names)
        known = [name for name, rule_id in names.items() if rule_id in rules]
        reading.complain_of(written, *reading.lost_references(written, known))
    return _silence_sources(_drop_dangling(rules, drafts, reading), drafts)


def _make_rule(draft: _Draft, names: Mapping[str, str], reading: _Reading) -> Rule | None:
    try:
        rule = _translate(draft, names)
        for condition in (rule.condition, *rule.selections.values()):
            if condition is not None:
                compile_condition(condition)
        faults = _unknown_fields(rule)
    except MISREAD as error:
        faults = [fault_of(error)]
    if not faults:
        return rule
    lost = reading.lost_references(draft.written, names)
    reading.complain_of(draft.written, *(lost or _all_faults(draft.written, draft.lists, faults)))
    reading.broken.append(draft.written)
    return None


def _unknown_fields(rule: Rule) -> list[Fault]:
    conditions: list[Condition] = [rule.condition] if rule.condition is not None else []
    conditions += rule.selections.values()
    faults = [
        no_such_field(name, ("detection",))
        for name in sorted({name for one in conditions for name in list_fields(one) or ()})
        if is_unknown(name)
    ]
    if rule.correlation is not None:
        summed = set(rule.correlation.fields) - set(rule.correlation.aliases)
        where = ("correlation", "condition", "field")
        faults += [no_such_field(name, where) for name in sorted(summed) if is_unknown(name)]
    return faults


def _translate(draft: _Draft, names: Mapping[str, str]) -> Rule:
    from sigma.correlations import SigmaCorrelationRule

    from m365watch.detect import sigma

    def find(reference: str) -> str:
        if reference not in names:
            raise sigma.Untranslatable(f"there is no rule {reference}")
        return names[reference]

    parsed = draft.parsed
    if isinstance(parsed, SigmaCorrelationRule):
        return replace(_describe(draft), correlation=sigma.convert_correlation(parsed, find=find))
    unless = sigma.expand_parts(draft.extension.without, lists=draft.lists)
    selections = sigma.convert_selections(parsed, lists=draft.lists)
    return replace(
        _describe(draft),
        service=sigma.check_product(parsed),
        condition=with_unless(sigma.convert_condition(parsed, lists=draft.lists), unless),
        selections={name: with_unless(one, unless) for name, one in selections.items()},
    )


def _describe(draft: _Draft) -> Rule:
    """The rule without its condition."""
    parsed = draft.parsed
    tags = [tag for tag in parsed.tags if tag.namespace == "attack"]
    techniques = [tag.name.upper() for tag in tags if tag.name[:1].lower() == "t" and tag.name[1:2].isdigit()]
    return Rule(
        id=draft.id,
        title=parsed.title,
        severity=Severity(str(parsed.level)) if parsed.level else Severity.MEDIUM,
        path=draft.path,
        name=parsed.name or "",
        status=str(parsed.status) if parsed.status else "test",
        description=parsed.description or "",
        author=parsed.author or "",
        date=str(parsed.date or ""),
        techniques=tuple(techniques),
        tactics=tuple(tag.name for tag in tags if tag.name.upper() not in techniques),
        references=tuple(str(one) for one in parsed.references or ()),
        false_positives=tuple(str(one) for one in parsed.falsepositives or ()),
        extension=draft.extension,
    )


def _drop_dangling(
    rules: dict[str, Rule], drafts: Mapping[str, _Draft], reading: _Reading
) -> dict[str, Rule]:
    """Without the correlations whose sources were left out, or that lead back to themselves."""
    while True:
        broken = [
            rule
            for rule in rules.values()
            if rule.correlation
            and (any(source not in rules for source in rule.correlation.sources) or _is_circle(rule, rules))
        ]
        if not broken:
            return rules
        for rule in broken:
            told = "a rule that it joins is left out, or joins it; mend that one, or join others"
            reading.complain_of(drafts[rule.id].written, Fault(("correlation", "rules"), told))
            del rules[rule.id]


def _is_circle(rule: Rule, rules: Mapping[str, Rule]) -> bool:
    seen: set[str] = set()
    left = list(rule.correlation.sources if rule.correlation else ())
    while left:
        source = left.pop()
        if source == rule.id:
            return True
        if source not in seen:
            seen.add(source)
            inner = rules[source].correlation if source in rules else None
            left += inner.sources if inner else ()
    return False


def _silence_sources(rules: dict[str, Rule], drafts: Mapping[str, _Draft]) -> list[Rule]:
    """Building blocks make no alerts, nor do rules that a correlation joins, unless it says `generate`."""
    silent: set[str] = set()
    loud: set[str] = set()
    for rule in rules.values():
        if rule.correlation is not None:
            generates = getattr(drafts[rule.id].parsed, "generate", False)
            (loud if generates else silent).update(rule.correlation.sources)
    return [
        replace(rule, alerts=False) if rule.extension.building_block or rule.id in silent - loud else rule
        for rule in rules.values()
    ]
