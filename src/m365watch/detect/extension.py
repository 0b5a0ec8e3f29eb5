"""What a rule says under its key `m365watch`, beyond Sigma, as values; `extension_text.py` reads it.

Where a rule has no such key, everything here has its default, so that Sigma rules of other hands
work as they are. Spans are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from m365watch.detect.severity import Severity as Severity  # noqa: PLC0414 - known by both names
from m365watch.values import dataclass


class Kind(StrEnum):
    """What makes alerts of a rule's matches; the names of Devo's kinds where there are such."""

    EACH = "each"
    """Every match, those of one group within `quiet` together."""
    SEVERAL = "several"
    """More than `threshold` matches of a group within `period`."""
    LOW = "low"
    """At most `threshold` matches within a `period`: somebody or something has fallen silent."""
    ROLLING = "rolling"
    """Looked at every `period`: `threshold` matches or more in the `back_period` before."""
    GRADIENT = "gradient"
    """From one `period` to the next the value changed by more than `threshold`."""
    DEVIATION = "deviation"
    """A period's value is further than `threshold` from the mean of the `periods` before."""
    FIRST_SEEN = "first_seen"
    """A key that was not there in the `period` before, once `learn` has passed."""
    TRAVEL = "travel"
    """Two places of one group, too far apart for the time between."""


@dataclass(frozen=True, slots=True)
class Several:
    """`several`: more than `threshold` matches in `period`."""

    threshold: int
    period: int
    keys: tuple[str, ...] = ()
    """The fields whose values are counted apart; `group_by` where it is absent."""


@dataclass(frozen=True, slots=True)
class Low:
    """`low`: at most `threshold` matches in a whole `period`."""

    period: int
    threshold: int = 0
    learn: int = 7 * 86_400
    """A group counts as alive once it had more than `threshold` matches in some period of this span."""


@dataclass(frozen=True, slots=True)
class Rolling:
    """`rolling`: every `period`, over the `back_period` before."""

    period: int
    back_period: int
    threshold: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """`gradient`: from one period to the next."""

    period: int
    threshold: float
    absolute: bool = False
    """Whether `threshold` is a difference; otherwise it is a factor, 2 for doubled."""
    direction: str = "up"
    value: str = ""
    """The field that is summed; matches are counted where it is empty."""
    at_least: float = 1
    """Periods whose larger value is below this are left alone."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """`deviation`: from the mean of the periods before."""

    period: int
    threshold: float
    periods: int = 14
    absolute: bool = False
    """Whether `threshold` is a difference from the mean; otherwise in standard deviations."""
    direction: str = "up"
    value: str = ""
    at_least: float = 1


@dataclass(frozen=True, slots=True)
class FirstSeen:
    """`first_seen`: a key that no day of the `period` before has had; days of UTC."""

    key: tuple[str, ...]
    period: int = 14 * 86_400
    learn: int = 7 * 86_400
    """How long a tenant has been watched by this rule before it says anything."""


@dataclass(frozen=True, slots=True)
class Travel:
    """`travel`: two places, too far apart."""

    speed_km_h: float = 900
    distance_km: float = 500
    within: int = 86_400


@dataclass(frozen=True, slots=True)
class Raise:
    """A severity that depends on what matched."""

    to: Severity
    when: str
    """The name of one of the rule's selections."""


@dataclass(frozen=True, slots=True)
class Extension:
    """The key `m365watch` of a rule."""

    detection: str = ""
    """Its number in the catalogue: B01."""
    evidence: str = ""
    aliases: tuple[str, ...] = ()
    entity: Mapping[str, str] = field(default_factory=lambda: {"user": "UserId"})
    """By kind (user, address, app, mailbox, site, session, ...), the field whose value it is; of A|B the
    first that a record has."""
    group_by: tuple[str, ...] = ()
    without: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By field, parts of texts; a value that holds one counts under no `contains`. %name% is a list."""
    quiet: int = 86_400
    once: int | None = None
    """For `value_count`: of records with the same group and counted value, the first of each such stretch
    counts. What people do all day costs little then; an alert's count is of the records that count."""
    headline: str = ""
    """The alert's title, with values in braces, where the rule's own says too little."""
    explanation: str = ""
    check: tuple[str, ...] = ()
    contain: tuple[str, ...] = ()
    building_block: bool = False
    """Whether the rule only serves correlations, whatever they say about generating."""
    risk: int | None = None
    tuning: Mapping[str, str] = field(default_factory=dict)
    raises: tuple[Raise, ...] = ()
    kind: Kind | None = None
    several: Several | None = None
    low: Low | None = None
    rolling: Rolling | None = None
    gradient: Change | None = None
    deviation: Deviation | None = None
    first_seen: FirstSeen | None = None
    travel: Travel | None = None

    @property
    def entity_fields(self) -> tuple[str, ...]:
        """The fields that tell groups apart where nothing is said of groups: each entity's, but for A|B."""
        return tuple(dict.fromkeys(name for name in self.entity.values() if "|" not in name))

    @property
    def effective_kind(self) -> Kind:
        """The kind that is said, or that whose numbers are given; each where there is neither."""
        if self.kind is not None:
            return self.kind
        return next((kind for kind in Kind if kind is not Kind.EACH and getattr(self, kind.value)), Kind.EACH)
