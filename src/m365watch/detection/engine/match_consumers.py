"""What a rule's matches are kept for: its own alerts, and those of the correlations that join it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice, product

from m365watch.detection.alerts.alert import CUT, clean_text
from m365watch.detection.rules.condition import Condition
from m365watch.detection.rules.severity import Severity

_FLAGS = {"m365.vip", "m365.admin", "m365.tor", "m365.vpn", "m365.hosting"}
"""Fields that say true or false, and are never absent."""
GROUPS_MAX = 16
"""Groups that one record may belong to, where the fields of a group have several values."""
COUNTED_MAX = 200
"""Characters of a value that is counted; of a longer one the first ones, and a digest of it all."""
_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Use:
    """For whom a match is kept, and what of the record."""

    rule_id: str
    group: tuple[str, ...]
    """The fields that make the group."""
    spreads: bool
    """Whether a record with several values of such a field belongs to a group for each."""
    requires_group: bool
    """Whether a record that lacks such a field is left out: nothing can be joined on what is absent."""
    kept: tuple[str, ...]
    counted: tuple[str, ...]
    required: tuple[str, ...] = ()
    """Fields without which a match is of no use."""

    bucket_ms: int = 0
    """The stretch of time of which the first match of a group is kept; 0 where all are."""
    by_counted: bool = False
    """Whether that is the first for each counted value."""
    fills_gaps: bool = False
    """Whether one field of a group will do, where it requires any: what else a record lacks is empty."""

    def is_idle(self, constant: frozenset[str]) -> bool:
        """Whether nothing can come of it, given the fields that say the same of every record."""
        needed = (*self.group, *self.required) if self.requires_group else self.required
        return any(name in constant and name not in _FLAGS for name in needed)

    @property
    def fields(self) -> frozenset[str]:
        """All that is read of a record that matches."""
        return frozenset((*self.group, *self.kept, *self.counted))


@dataclass(frozen=True, slots=True)
class Sought:
    """A rule's condition, and what the records that fulfil it are kept for; plain values alone."""

    rule_id: str
    severity: Severity
    condition: Condition
    uses: tuple[Use, ...]
    raises: tuple[tuple[Severity, Condition], ...] = ()
    """A higher severity, and when it holds."""


def counted_text(value: str) -> str:
    """A value as it is counted, in lower case: files deep down in folders differ at their end only."""
    folded = value.lower()
    if len(folded) <= COUNTED_MAX:
        return clean_text(folded)
    digest = blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{clean_text(folded[: COUNTED_MAX - len(digest) - 1])}{CUT}{digest}"


def groups_of(choices: Sequence[tuple[str, ...]], use: Use) -> list[tuple[str, ...]]:
    """The groups that a record belongs to, at most `GROUPS_MAX`; none where it lacks a required field.

    `choices` has, for each field of a group, the record's values in lower case.
    """
    if use.requires_group and not (any(choices) if use.fills_gaps else all(choices)):
        return []
    if all(choices) and sum(map(len, choices)) == len(choices):
        return [tuple([values[0] for values in choices])]
    most = GROUPS_MAX if use.spreads else 1
    every = product(*((values or ("",))[:most] for values in choices))
    return list(islice(every, GROUPS_MAX))
