"""Rules made of what was read: translated, with what they refer to in whatever file, and filters applied.

A rule with a mistake is left out, with whatever joins it, and the others work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule

from m365watch.detection.rules import sigma_parser as sigma
from m365watch.detection.rules.condition import with_unless
from m365watch.detection.rules.condition_compiler import compile_condition
from m365watch.detection.rules.diagnostics import MISREAD, Fault, Mistake, Places, mistake_at
from m365watch.detection.rules.extension import Extension, Severity
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.sigma_filters import FilterDraft, apply_filter
from m365watch.detection.rules.sigma_parser import Lists
from m365watch.detection.rules.validation import fault_of, faults_of, names_in, reference_faults


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
    lists: Lists
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

    lists: Lists
    known: Lists
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
        return [*reference_faults(written.content, names, broken)]

    def complain_of(self, written: Written, *faults: Fault, is_lesser: bool = False) -> None:
        """Keep a line for each of a document's faults."""
        for one in faults:
            line = written.places.line_of(one.where)
            self.complain(written.path, written.title, str(one), line=line, is_lesser=is_lesser)

    def refuse(self, written: Written, lists: Lists, *errors: Exception) -> None:
        """Keep a line for each mistake of a document that has these errors."""
        whole = faults_of(written.content, lists, errors) if written.is_whole else map(fault_of, errors)
        self.complain_of(written, *whole)


RULES_MAX = 20_000


def make_rules(reading: Reading) -> list[Rule]:
    """The rules of all drafts, each referred to by whatever file."""
    drafts: dict[str, Draft] = {}
    names: dict[str, str] = {}
    for draft in reading.drafts[:RULES_MAX]:
        other = drafts.get(draft.id)
        if other is not None and draft.outranks(other):
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
        faults: list[Fault] = []
        try:
            rules, faults = apply_filter(one, rules, names)
        except MISREAD as error:
            reading.refuse(written, one.lists, error)
        known = [name for name, rule_id in names.items() if rule_id in rules]
        reading.complain_of(written, *faults, *reading.lost_references(written, known))
    return _silence_sources(_drop_dangling(rules, drafts, reading), drafts)


def _make_rule(draft: Draft, names: Mapping[str, str], reading: Reading) -> Rule | None:
    if lost := reading.lost_references(draft.written, names):
        reading.complain_of(draft.written, *lost)
    else:
        try:
            return _translate(draft, names)
        except MISREAD as error:
            reading.refuse(draft.written, draft.lists, error)
    reading.broken.append(draft.written)
    return None


def _translate(draft: Draft, names: Mapping[str, str]) -> Rule:
    """The rule. Raises: one of MISREAD."""

    def find(reference: str) -> str:
        if reference not in names:
            raise sigma.Untranslatable(f"there is no rule {reference}", "correlation")
        return names[reference]

    parsed = draft.parsed
    if isinstance(parsed, SigmaCorrelationRule):
        return replace(_describe(draft), correlation=sigma.convert_correlation(parsed, find=find))
    service = sigma.check_product(parsed)
    unless = sigma.expand_parts(draft.extension.without, lists=draft.lists)
    selections = sigma.convert_selections(parsed, lists=draft.lists)
    condition = with_unless(sigma.convert_condition(parsed, lists=draft.lists), unless)
    selections = {name: with_unless(one, unless) for name, one in selections.items()}
    for one in (condition, *selections.values()):
        compile_condition(one)
    return replace(_describe(draft), service=service, condition=condition, selections=selections)


def _describe(draft: Draft) -> Rule:
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


def _drop_dangling(rules: dict[str, Rule], drafts: Mapping[str, Draft], reading: Reading) -> dict[str, Rule]:
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


def _silence_sources(rules: dict[str, Rule], drafts: Mapping[str, Draft]) -> list[Rule]:
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
