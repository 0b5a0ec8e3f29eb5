"""What a rule says under its key `m365watch`, beyond Sigma, as values; `extension_text.py` reads it.

Where a rule has no such key, everything here has its default, so that Sigma rules of other hands
work as they are. Spans are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from m365watch.detection.rules.severity import Severity as Severity  # noqa: PLC0414 - known by both names


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


_NUMBERED = tuple((kind, kind.value) for kind in Kind if kind is not Kind.EACH)
"""The kinds that have numbers, each with the key of these. It is asked for each group that is judged."""


@dataclass(frozen=True, slots=True)
class Several:
    """`several`: more than `threshold` matches in `period`."""

    threshold: int
    """There is an alert from one match more on."""
    period: int
    """Any span of this length."""
    keys: tuple[str, ...] = ()
    """The fields whose values are counted apart; `group_by` where it is absent."""


@dataclass(frozen=True, slots=True)
class Low:
    """`low`: at most `threshold` matches in a whole `period`."""

    period: int
    """Cut at fixed times since 1970: whole hours, or days of UTC; looked at 2 hours after its end."""
    threshold: int = 0
    """So many in a period are silence still."""
    learn: int = 7 * 86_400
    """A group counts as alive once it had more than `threshold` matches in some period of this span."""


@dataclass(frozen=True, slots=True)
class Rolling:
    """`rolling`: every `period`, over the `back_period` before."""

    period: int
    """How often it is looked; cut as those of `low`."""
    back_period: int
    """What is looked at each time, up to then."""
    threshold: int = 1
    """There is an alert from so many matches on."""


@dataclass(frozen=True, slots=True)
class Change:
    """`gradient`: from one period to the next."""

    period: int
    """Cut as those of `low`; each is compared with the one before."""
    threshold: float
    """By more than this; for what falls, a factor counts the other way round."""
    absolute: bool = False
    """Whether `threshold` is a difference; otherwise it is a factor, 2 for doubled."""
    direction: str = "up"
    """Which changes count: up, down or both."""
    value: str = ""
    """The field that is summed; matches are counted where it is empty."""
    at_least: float = 1
    """Periods whose larger value is below this are left alone."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """`deviation`: from the mean of the periods before."""

    period: int
    """Cut as those of `low`; each is compared with the mean of those before."""
    threshold: float
    """Further than this from the mean."""
    periods: int = 14
    """How many before make the mean, once a tenant has been watched for so long; one without a match is 0."""
    absolute: bool = False
    """Whether `threshold` is a difference from the mean; otherwise in standard deviations."""
    direction: str = "up"
    """Which deviations count: up, down or both."""
    value: str = ""
    """The field that is summed; matches are counted where it is empty."""
    at_least: float = 1
    """Periods are left alone whose value and whose mean are below this."""


@dataclass(frozen=True, slots=True)
class FirstSeen:
    """`first_seen`: a key that no day of the `period` before has had; days of UTC."""

    key: tuple[str, ...]
    """The fields whose values together are new: of person and country, a country new for the person."""
    period: int = 14 * 86_400
    """How far back it counts as known."""
    learn: int = 7 * 86_400
    """How long a tenant has been watched by this rule before it says anything."""


@dataclass(frozen=True, slots=True)
class Travel:
    """`travel`: two places, too far apart."""

    speed_km_h: float = 900
    """Faster than this nobody travels."""
    distance_km: float = 500
    """Places that are nearer than this are one: tables of addresses are no better."""
    within: int = 86_400
    """Two places further apart in time are not compared."""


@dataclass(frozen=True, slots=True)
class Raise:
    """A severity that depends on what matched."""

    to: Severity
    """informational, low, medium, high or critical; it never falls."""
    when: str
    """The name of one of the rule's selections."""


@dataclass(frozen=True, slots=True)
class Extension:
    """The key `m365watch` of a rule."""

    detection: str = ""
    """Its number in the catalogue: B01."""
    evidence: str = ""
    """What it was verified on, for `rules show`."""
    aliases: tuple[str, ...] = ()
    """Other names by which commands and exceptions find it."""
    entity: Mapping[str, str] = field(default_factory=lambda: {"user": "UserId"})
    """By kind (user, address, app, mailbox, site, session, ...), the field whose value it is; of A|B the
    first that a record has."""
    group_by: tuple[str, ...] = ()
    """The fields by whose values matches belong together; those of `entity` where it is absent."""
    without: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By field, parts of texts; a value that holds one counts under no `contains`. %name% is a list."""
    quiet: int = 86_400
    """Matches of one group make one alert for as long as no more than this lies between two of them."""
    once: int | None = None
    """For `value_count`: of records with the same group and counted value, the first of each such stretch
    counts. What people do all day costs little then; an alert's count is of the records that count."""
    from_severity: Severity = Severity.INFORMATIONAL
    """For correlations: from which severity on counts what is joined, with what `raise` has made of it."""
    trusted: str = ""
    """A field that is true of trusted devices; of A|B the first that a record has. Records of these alone
    make no alert: two places of a journey, a first sighting, a window. Beside others they count."""
    headline: str = ""
    """The alert's title, with values in braces, where the rule's own says too little."""
    explanation: str = ""
    """What an alert says, with fields in braces: {UserId}, {A|B} for the first that is there, {user} for an
    entity, {count}; what stands in [[ ]] is left out where a value in it is not known."""
    check: tuple[str, ...] = ()
    """What an analyst looks at next; with values in braces, too."""
    contain: tuple[str, ...] = ()
    """Steps of `m365watch respond`, by name; a wrong one is told with those that there are."""
    building_block: bool = False
    """Whether the rule only serves correlations, whatever they say about generating."""
    risk: int | None = None
    """Points that an alert adds to the risk of its entities; by its severity where it is absent."""
    tuning: Mapping[str, str] = field(default_factory=dict)
    """By what can be turned, what that does; for `rules show`."""
    raises: tuple[Raise, ...] = ()
    """One or several: a higher severity, where a selection holds as well."""
    kind: Kind | None = None
    """Only to be said for travel without numbers; otherwise one of the keys below says it."""
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
        for kind, key in _NUMBERED:
            if getattr(self, key):
                return kind
        return Kind.EACH
