"""The detections: which rules would be in force, and each mistake in the user's own files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from m365watch.common.clock import Clock
from m365watch.common.file_access import is_file
from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.settings import Settings
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.factory import list_unread, list_vain, load_exceptions, load_rules
from m365watch.detection.rules.rule_library import Library, names_of_files
from m365watch.detection.store.database_recovery import damage_of
from m365watch.detection.store.detection_database import START_AGAIN
from m365watch.registry.checks import Check, Checked, bad, good, odd

TOLD_MAX = 20
"""Files with a trouble that are told one by one."""


def check_enrichment(settings: Settings, clock: Clock) -> list[Checked]:
    """What nobody has told the rules, and a line for each file that cannot be read."""
    detections = settings.detections
    if not detections.enabled:
        return []
    from m365watch.detection.enrichment.context_loader import readable, remarks_of
    from m365watch.detection.enrichment.missing_sources import all_lacks
    from m365watch.detection.factory import knowledge_of, load_rules

    known, troubles = readable(detections, clock=clock)
    knowledge = knowledge_of(known, clock=clock)
    lacking = all_lacks(load_rules(detections).rules, knowledge)
    steps = [
        odd(Check.DETECTIONS, trouble, fix="put the file in order; until then rules go without it")
        for trouble in troubles[:TOLD_MAX]
    ]
    steps += [
        odd(Check.DETECTIONS, remark, fix="correct what is meant to be one; the rest of the file counts")
        for remark in remarks_of(knowledge)[:TOLD_MAX]
    ]
    if lacking:
        keys = ", ".join(sorted({key for keys in lacking.values() for key in keys}))
        seen = (
            f"{len(lacking):,} rules find less or nothing without {keys} of detections.enrich "
            "(`m365watch rules list` names them)"
        )
        steps.append(good(Check.DETECTIONS, seen))
    return steps


MISTAKES_SHOWN_MAX = 20
_RULE_FIX = "correct it; until then {follows}"
_MISSING_FIX = "put it there, or correct detections in the configuration; a run does without it until then"
_CLOSED_FIX = "let this user read it, or run this as the user whose it is; a run as this one does without it"
_EXCEPTION_FIX = "correct it; until then the exception does not hold"


def check_detections(settings: Settings) -> list[Checked]:
    """How many rules are in force, and a line for each mistake; nothing where detections are off.

    Reads every rule, which takes a second or so.
    """
    detections = settings.detections
    if not detections.enabled:
        return []
    library = load_rules(detections)
    exceptions, lines = load_exceptions(detections)
    unread = list_unread(detections)
    told = {one.line for one in unread}
    mistakes = [
        (str(one), _RULE_FIX.format(follows=one.follows)) for one in library.mistakes if str(one) not in told
    ]
    lines = [line for line in lines if line not in told]
    lines += list_vain(exceptions, library, settings)
    seen = _in_force(detections, library, len(exceptions.every))
    if not library.rules:
        fix = "name a pack in detections.packs or rules of your own, or set detections.enabled to false"
        head = bad(Check.DETECTIONS, seen, fix=fix)
    else:
        head = good(Check.DETECTIONS, seen)
    without = [
        bad(Check.DETECTIONS, one.line, fix=_CLOSED_FIX if one.is_closed else _MISSING_FIX)
        for one in unread[:MISTAKES_SHOWN_MAX]
    ]
    return [head, *without, *_mistakes(mistakes), *_mistakes((line, _EXCEPTION_FIX) for line in lines)]


def check_file(settings: Settings, clock: Clock) -> list[Checked]:
    """That the file of the detections is damaged, where a look of a second finds it so; it stays as it is."""
    path = settings.state_directory / FILE_NAME
    if not (settings.detections.enabled and settings.keeps_state and is_file(path)):
        return []
    problem = damage_of(path, clock=clock)
    if not problem:
        return []
    return [odd(Check.DETECTIONS, f"{path} is damaged ({problem})", fix=f"put a copy back, or {START_AGAIN}")]


def _in_force(detections: DetectionsSection, library: Library, exceptions: int) -> str:
    """129 rules of the packs core and devo, 3 of yours; 2 exceptions."""
    own = _count_own(library, detections.rules_directories)
    packs = len(library.rules) - own
    parts = []
    if detections.packs:
        word = "pack" if len(detections.packs) == 1 else "packs"
        parts.append(f"{packs:,} {_rules(packs)} of the {word} {' and '.join(detections.packs)}")
    if detections.rules_directories:
        parts.append(f"{own:,} of yours")
    told = ", ".join(parts) or "no rules"
    return f"{told}; {exceptions:,} exception{'' if exceptions == 1 else 's'}" if exceptions else told


def _count_own(library: Library, directories: Iterable[Path]) -> int:
    own = {name for place in directories for name in names_of_files(place)}
    return sum(rule.path in own for rule in library.rules)


def _rules(number: int) -> str:
    return "rule" if number == 1 else "rules"


def _mistakes(found: Iterable[tuple[str, str]]) -> list[Checked]:
    """A step for each line and what to do about it."""
    told = list(found)
    steps = [odd(Check.DETECTIONS, line, fix=fix) for line, fix in told[:MISTAKES_SHOWN_MAX]]
    if (more := len(told) - MISTAKES_SHOWN_MAX) > 0:
        steps.append(odd(Check.DETECTIONS, f"{more:,} more; `m365watch rules validate` names them"))
    return steps
