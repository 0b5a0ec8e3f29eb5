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
from m365watch.detect.condition import Condition, list_fields
from m365watch.detect.derived.catalogue import is_derived, list_names
from m365watch.detect.extension import Extension, Kind, Severity
from m365watch.detect.extension_text import parse_extension
from m365watch.detect.filters import FilterDraft, apply_filter
from m365watch.detect.misread import MISREAD, no_text_in, reason_of
from m365watch.detect.rule import Rule
from m365watch.values import dataclass

if TYPE_CHECKING:
    from sigma.correlations import SigmaCorrelationRule
    from sigma.rule import SigmaRule

    from m365watch.detect.documents import Document

PACKS_DIRECTORY = Path(__file__).parent / "packs"
FILE_BYTES_MAX = 1_048_576
"""The largest file of rules."""
LIST_BYTES_MAX = 64 * 1_048_576
"""The largest file of a list: some millions of addresses."""
FILES_MAX = 20_000
RULES_MAX = 20_000
_SUFFIXES = {".yml", ".yaml"}
_CONTEXT = frozenset(
    [
        "user",
        "count",
        "first",
        "last",
        "distinct",
        "values",
        "value",
        "tenant",
        "group",
        "distance",
        "speed",
        "from",
        "to",
        "periods",
        "rules",
    ]
)
"""What an explanation may name beside entities and fields."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something in a file of rules that has to be mended, in one line."""

    path: str
    rule: str
    """The rule's title; empty where the file cannot be read at all."""
    text: str
    line: int = 0
    """Where the rule begins in its file; 0 where the text says more, or nothing can."""

    def __str__(self) -> str:
        """rules/mine.yml:14 (A title): detection: ..."""
        title = f" ({self.rule})" if self.rule else ""
        line = f":{self.line}" if self.line else ""
        return f"{self.path}{line}{title}: {self.text}"


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


def _shown(text: str) -> str:
    """Without what moves a terminal's cursor."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


@dataclass(slots=True)
class _Draft:
    """A rule between parsing and use."""

    path: str
    parsed: SigmaRule | SigmaCorrelationRule
    extension: Extension
    lists: Mapping[str, tuple[str, ...]]
    id: str = ""
    line: int = 0
    is_packed: bool = False
    """Whether it came along; a rule of the user's with its id takes its place."""


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    lists: Mapping[str, tuple[str, ...]]
    drafts: list[_Draft] = field(default_factory=list)
    filters: list[FilterDraft] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    is_packed: bool = False
    """Whether the place that is being read is one of the packs."""

    def complain(self, path: str, rule: str, text: str, *, line: int = 0) -> None:
        """Keep one line."""
        said = " ".join(_shown(str(text)).split())
        self.mistakes.append(Mistake(path, _shown(rule[:200]), said[:400], line))


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


def load_library(places: Iterable[Path], *, lists: Mapping[str, tuple[str, ...]] = {}) -> Library:
    """The rules of these files and directories; a directory is searched for .yml and .yaml at any depth.

    The folder `lists` of a directory has the texts that its rules name with the modifier `expand`, a
    line each. A rule's id is its own; one without gets an id of its file and title.
    """
    reading = _Reading(lists)
    for place in places:
        reading.is_packed = place.is_relative_to(PACKS_DIRECTORY)
        _read_place(place, reading)
    rules = _finish(reading)
    return Library(tuple(rules), tuple(reading.mistakes))


def _read_place(place: Path, reading: _Reading) -> None:
    if place.is_file():
        _read_file(
            place, place.name, reading, {**_read_lists(place.parent / "lists", reading), **reading.lists}
        )
        return
    if not place.is_dir():
        reading.complain(str(place), "", "there is no such file or directory")
        return
    lists = {**_read_lists(place / "lists", reading), **reading.lists}
    paths = sorted(path for path in place.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    if len(paths) > FILES_MAX:
        reading.complain(str(place), "", f"has more than {FILES_MAX} files of rules; the rest is left out")
    for path in paths[:FILES_MAX]:
        _read_file(path, str(path.relative_to(place.parent)), reading, lists)


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

    from m365watch.detect.documents import load_documents
    from m365watch.detect.documents import reason_of as mistake_of

    try:
        documents = list(load_documents(_read_text(path)))
    except yaml.YAMLError as error:
        reading.complain(shown, "", f"is no YAML: {mistake_of(error)}")
        return
    except (OSError, ValueError, RecursionError) as error:
        reading.complain(shown, "", reason_of(error))
        return
    for line, rule in _group_documents(documents, shown, reading):
        _read_rule(rule, shown, reading, lists, line=line)


def _read_text(path: Path) -> bytes:
    content, _ = read_small_file(path, bytes_max=FILE_BYTES_MAX)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"is larger than {FILE_BYTES_MAX} bytes")
    return content


def _group_documents(
    documents: list[Document], shown: str, reading: _Reading
) -> list[tuple[int, list[dict[str, Any]]]]:
    """The documents that are parsed together: all where one has an `action`, otherwise each by itself."""
    maps: list[tuple[int, dict[str, Any]]] = []
    for line, one, twice in documents:
        if not isinstance(one, dict):
            reading.complain(shown, "", "is no map of keys and values", line=line)
        elif twice:
            reading.complain(shown, str(one.get("title", "")), twice, line=line)
        else:
            maps.append((line, one))
    if any("action" in one for _, one in maps):
        return [(maps[0][0], [one for _, one in maps])]
    return [(line, [one]) for line, one in maps]


def _read_rule(
    documents: list[dict[str, Any]],
    shown: str,
    reading: _Reading,
    lists: Mapping[str, tuple[str, ...]],
    *,
    line: int,
) -> None:
    from sigma.collection import SigmaCollection

    title = str(documents[0].get("title", ""))
    if told := no_text_in(documents[0]):
        titled = title if isinstance(documents[0].get("title"), str) else ""
        reading.complain(shown, titled, told, line=line)
        return
    try:
        parsed = SigmaCollection.from_dicts(
            documents, collect_errors=True, collect_filters=True, resolve_references=False
        )
    except MISREAD as error:
        reading.complain(shown, title, reason_of(error), line=line)
        return
    for mistake in parsed.errors:
        reading.complain(shown, title, reason_of(mistake), line=line)
    if parsed.errors:
        return
    reading.filters += [FilterDraft(shown, one, lists, line) for one in parsed.filters]
    for rule in parsed.rules:
        extension, lines = parse_extension(rule.custom_attributes.get("m365watch"))
        for told in lines:
            reading.complain(shown, rule.title, told, line=line)
        if not lines:
            draft = _Draft(shown, rule, extension, lists, _id_of(rule, shown), line, reading.is_packed)
            reading.drafts.append(draft)


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
            told = f"id: {draft.id} is also that of a rule in {other.path}"
            reading.complain(draft.path, draft.parsed.title, told, line=draft.line)
            continue
        drafts[draft.id] = draft
        names[draft.id] = draft.id
        if draft.parsed.name:
            names.setdefault(draft.parsed.name, draft.id)
    rules: dict[str, Rule] = {}
    for draft in drafts.values():
        rule = _make_rule(draft, names, reading)
        if rule is not None:
            rules[rule.id] = rule
    for one in reading.filters:
        rules = apply_filter(
            one, rules, names, partial(reading.complain, one.path, one.parsed.title, line=one.line)
        )
    return _silence_sources(_drop_dangling(rules, drafts, reading), drafts)


def _make_rule(draft: _Draft, names: Mapping[str, str], reading: _Reading) -> Rule | None:
    try:
        rule = _translate(draft, names)
        for condition in (rule.condition, *rule.selections.values()):
            if condition is not None:
                compile_condition(condition)
    except MISREAD as error:
        reading.complain(draft.path, draft.parsed.title, reason_of(error), line=draft.line)
        return None
    mistakes = _check(rule)
    for told in mistakes:
        reading.complain(draft.path, rule.title, told, line=draft.line)
    return None if mistakes else rule


def _translate(draft: _Draft, names: Mapping[str, str]) -> Rule:
    from sigma.correlations import SigmaCorrelationRule

    from m365watch.detect import sigma

    def find(reference: str) -> str:
        if reference not in names:
            raise sigma.Untranslatable(f"correlation.rules: there is no rule {reference}")
        return names[reference]

    parsed = draft.parsed
    if isinstance(parsed, SigmaCorrelationRule):
        return replace(_describe(draft), correlation=sigma.convert_correlation(parsed, find=find))
    return replace(
        _describe(draft),
        service=sigma.check_product(parsed),
        condition=sigma.convert_condition(parsed, lists=draft.lists),
        selections=sigma.convert_selections(parsed, lists=draft.lists),
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


def _check(rule: Rule) -> list[str]:
    """What is wrong with a rule as a whole."""
    return [*_check_fields(rule), *_check_selections(rule), *_check_placeholders(rule)]


def _check_fields(rule: Rule) -> list[str]:
    conditions: list[Condition] = [rule.condition] if rule.condition is not None else []
    conditions += rule.selections.values()
    named = {name for one in conditions for name in list_fields(one) or ()}
    extension = rule.extension
    named |= {*extension.entity.values(), *extension.group_by}
    if extension.first_seen is not None:
        named |= set(extension.first_seen.key)
    if rule.correlation is not None:
        named |= {*rule.correlation.group_by, *rule.correlation.fields} - set(rule.correlation.aliases)
    unknown = sorted(
        name for name in named if name.startswith("m365.") and not is_derived(name.removeprefix("m365."))
    )
    return [f"{name}: is no derived field; there are {', '.join(list_names())}" for name in unknown]


def _check_selections(rule: Rule) -> list[str]:
    if rule.correlation is not None and rule.kind is not Kind.EACH:
        return [f"m365watch.kind: {rule.kind} is for rules with a detection, and this is a correlation"]
    return [
        f"m365watch.raise: there is no selection {one.when}"
        for one in rule.extension.raises
        if one.when not in rule.selections and rule.correlation is None
    ]


def _check_placeholders(rule: Rule) -> list[str]:
    known = _CONTEXT | rule.extension.entity.keys()
    known |= set(rule.correlation.group_by) if rule.correlation is not None else set()
    return [
        f"m365watch.explanation or check: {{{name}}} is neither an entity nor a field"
        for name in rule.placeholders
        if name not in known and not _looks_like_a_field(name)
    ]


def _looks_like_a_field(name: str) -> bool:
    if name.startswith("m365."):
        return is_derived(name.removeprefix("m365."))
    return name[:1].isupper()


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
            told = "correlation.rules: a rule that it joins is left out, or joins it"
            reading.complain(rule.path, rule.title, told, line=drafts[rule.id].line)
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
