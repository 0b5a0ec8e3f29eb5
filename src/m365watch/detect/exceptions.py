"""Exceptions: alerts that somebody has decided not to be told of, as data, each with a reason and an end.

    exceptions:
      - rule: B08                              # any of a rule's names; * for all
        entity: {user: backup@contoso.example} # all of these; * stands for anything
        until: 2026-12-31                      # the first day on which it no longer holds
        reason: the backup reads every mailbox

An alert that is excepted is kept, with the reason, and neither shown nor told. What it says of an entity
still serves the correlations that join its rule, which are excepted by their own names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m365watch.config.files import read_small_file
from m365watch.detect.alert import Alert
from m365watch.detect.rule import Rule
from m365watch.values import dataclass

FILE_BYTES_MAX = 4 * 1_048_576
EXCEPTIONS_MAX = 10_000


class AlertException(BaseModel):
    """One exception."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str = Field(min_length=1)
    """The rule's id, name, title, number in the catalogue or alias; * for every rule."""
    reason: str = Field(min_length=1, max_length=500)
    entity: dict[str, str] = Field(default_factory=dict)
    """By kind, whose alerts; in any case, with * for anything. Everybody's where it is empty."""
    tenant: str = ""
    until: date | None = None
    """Alerts that begin on that day of UTC or later are told again."""

    def holds(self, rule: Rule, alert: Alert) -> bool:
        """Whether the alert is excepted: by when it begins, and not by when it is looked at."""
        if self.rule != "*" and self.rule.lower() not in {name.lower() for name in rule.names}:
            return False
        if self.tenant and self.tenant.lower() != alert.tenant.lower():
            return False
        if self.until is not None and alert.first_seen_at >= datetime.combine(self.until, _MIDNIGHT, UTC):
            return False
        return all(
            any(name == kind and fnmatchcase(value.lower(), wanted.lower()) for name, value in alert.entities)
            for kind, wanted in self.entity.items()
        )


_MIDNIGHT = datetime.min.time()


@dataclass(frozen=True, slots=True)
class Exceptions:
    """All exceptions."""

    every: tuple[AlertException, ...] = ()

    def find(self, rule: Rule, alert: Alert) -> AlertException | None:
        """The first exception that holds for an alert."""
        return next((one for one in self.every if one.holds(rule, alert)), None)


def read_exceptions(path: Path) -> tuple[Exceptions, list[str]]:
    """The exceptions of a file, and a line for each mistake in it; those with a mistake are left out."""
    import yaml

    from m365watch.detect.documents import load_document, reason_of

    try:
        content, _ = read_small_file(path, bytes_max=FILE_BYTES_MAX)
        if len(content) > FILE_BYTES_MAX:
            return Exceptions(), [f"{path}: is larger than {FILE_BYTES_MAX} bytes"]
        document, root = load_document(content)
    except FileNotFoundError:
        return Exceptions(), [f"{path}: there is no such file"]
    except yaml.YAMLError as error:
        return Exceptions(), [f"{path}: is no YAML: {reason_of(error)}"]
    except ValueError as error:
        return Exceptions(), [f"{path}: {error}"]
    except RecursionError:
        return Exceptions(), [f"{path}: is nested too deeply"]
    found = document.get("exceptions") if isinstance(document, dict) else document
    if document is None or found is None:
        return Exceptions(), []
    if not isinstance(found, list):
        return Exceptions(), [f"{path}: exceptions: is no list"]
    return _parse(found, str(path), _lines_of(root))


def _lines_of(root: Any) -> list[int]:
    """The line on which each exception begins; none where they stand in an unusual way."""
    import yaml

    node = root
    if isinstance(node, yaml.MappingNode):
        node = next((value for key, value in node.value if key.value == "exceptions"), None)
    return [one.start_mark.line + 1 for one in node.value] if isinstance(node, yaml.SequenceNode) else []


def _parse(found: Sequence[object], path: str, lines: Sequence[int]) -> tuple[Exceptions, list[str]]:
    kept: list[AlertException] = []
    mistakes: list[str] = []
    for number, one in enumerate(found[:EXCEPTIONS_MAX]):
        try:
            kept.append(AlertException.model_validate(one))
        except ValidationError as error:
            place = f"{path}:{lines[number]}" if number < len(lines) else path
            mistakes += [
                f"{place}: {'.'.join(['exceptions', str(number), *(str(part) for part in mistake['loc'])])}: "
                f"{_words(mistake['type'], mistake['msg'])}"
                for mistake in error.errors(include_url=False)
            ]
    if len(found) > EXCEPTIONS_MAX:
        mistakes.append(f"{path}: has more than {EXCEPTIONS_MAX} exceptions; the rest is left out")
    return Exceptions(tuple(kept)), mistakes


def _words(kind: str, text: str) -> str:
    if kind == "extra_forbidden":
        return "is no key that is known here"
    return "is missing" if kind == "missing" else f"{text[:1].lower()}{text[1:]}"


def list_unknown(exceptions: Exceptions, rules: Iterable[Rule]) -> list[str]:
    """A line for each exception that excepts nothing: no such rule, or none with such an entity."""
    named: dict[str, list[Rule]] = {}
    for rule in rules:
        for name in {name.lower() for name in rule.names}:
            named.setdefault(name, []).append(rule)
    lines = []
    for one in exceptions.every:
        if one.rule != "*" and one.rule.lower() not in named:
            lines.append(f"there is no rule {one.rule}: the exception excepts nothing")
            continue
        kinds = _kinds_of(named.get(one.rule.lower(), []))
        strange = sorted(one.entity.keys() - kinds) if kinds else []
        if strange:
            lines.append(
                f"{one.rule} has no entity {strange[0]}, only {', '.join(sorted(kinds))}: "
                "the exception excepts nothing"
            )
    return lines


def _kinds_of(rules: Sequence[Rule]) -> set[str]:
    """The kinds of entity that alerts of the rules may have; none where that hangs on what they join."""
    if any(rule.correlation is not None for rule in rules):
        return set()
    return {kind for rule in rules for kind in rule.extension.entity}
