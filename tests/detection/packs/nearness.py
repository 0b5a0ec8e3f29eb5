"""Which near misses are a rule's own: those with records that it looks at, and those that say so."""

from __future__ import annotations

from expand import Case, CaseFile
from verdicts import knowledge_of

from m365watch.detection.engine.purposes import list_sought
from m365watch.detection.engine.rule_matcher import Matcher
from m365watch.detection.rule_test_cases import with_sources
from m365watch.detection.rules.rule import Joined, Rule
from m365watch.detection.rules.rule_library import Library
from m365watch.records.headers import headers_of

_TOGETHER = {Joined.TEMPORAL, Joined.ORDERED}


def near_misses_of(rule: Rule, file: CaseFile, library: Library) -> list[Case]:
    """The file's near misses that are about this rule of its detection.

    It is alone there, the case names it, or the case names none and has records that it looks at.
    """
    near = [case for case in file.cases if case.kind == "near miss"]
    if [one.id for one in library.find(file.detection) if one.alerts] == [rule.id]:
        return near
    matchers = _matchers_of(rule, file, library)
    is_together = rule.correlation is not None and rule.correlation.joined in _TOGETHER
    least = min(2, len(matchers)) if is_together else 1
    return [
        case
        for case in near
        if rule.name in case.of or (not case.of and sum(_looks_at(one, case) for one in matchers) >= least)
    ]


def _matchers_of(rule: Rule, file: CaseFile, library: Library) -> list[Matcher]:
    """What looks for the rule, or for each part of what it joins."""
    knowledge, by_id = knowledge_of(file.settings), library.by_id()
    sought = list_sought(with_sources([rule], library), knowledge)
    sources = rule.correlation.sources if rule.correlation is not None else (rule.id,)
    parts = [{one.id for one in with_sources([by_id[source]], library)} for source in dict.fromkeys(sources)]
    return [Matcher([one for one in sought if one.rule_id in part], knowledge=knowledge) for part in parts]


def _looks_at(matcher: Matcher, case: Case) -> bool:
    return any(matcher.plan_for(header) is not None for header in headers_of(case.records))
