"""What a rule says under its key `m365watch`, beyond Sigma; every mistake becomes a line.

Where a rule has no such key, everything here has its default, so that Sigma rules of other hands
work as they are.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from m365watch.detect.severity import Severity as Severity  # noqa: PLC0414 - known by both names

_DURATION = re.compile(r"([0-9]{1,9})\s*([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

PERIOD_S_MAX = 90 * 86_400
"""The longest span that a rule may look back over."""


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


def parse_duration_s(value: object) -> int:
    """Seconds of a text such as 90s, 5m, 24h, 7d or 2w; a plain number is seconds.

    Raises: ValueError.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        seconds = value
    else:
        match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None or int(match[1]) == 0:
            raise ValueError("is no span such as 90s, 5m, 24h, 7d or 2w")
        seconds = int(match[1]) * _UNIT_S[match[2]]
    if seconds > PERIOD_S_MAX:
        raise ValueError("is longer than 90 days")
    return seconds


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Span = Annotated[int, BeforeValidator(parse_duration_s)]
"""Seconds; written as 24h."""
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
"""One name or several."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, populate_by_name=True)


class Several(_Part):
    """`several`: more than `threshold` matches in `period`."""

    threshold: int = Field(ge=0)
    period: Span
    keys: Names = ()
    """The fields whose values are counted apart; `group_by` where it is absent."""


class Low(_Part):
    """`low`: at most `threshold` matches in a whole `period`."""

    period: Span
    threshold: int = Field(default=0, ge=0)
    learn: Span = 7 * 86_400
    """A group counts as alive once it had more than `threshold` matches in some period of this span."""


class Rolling(_Part):
    """`rolling`: every `period`, over the `back_period` before."""

    period: Span
    back_period: Span
    threshold: int = Field(default=1, ge=1)


class Change(_Part):
    """`gradient`: from one period to the next."""

    period: Span
    threshold: float = Field(gt=0)
    absolute: bool = False
    """Whether `threshold` is a difference; otherwise it is a factor, 2 for doubled."""
    direction: str = Field(default="up", pattern="^(up|down|both)$")
    value: str = ""
    """The field that is summed; matches are counted where it is empty."""
    at_least: float = Field(default=1, ge=0)
    """Periods whose larger value is below this are left alone."""


class Deviation(_Part):
    """`deviation`: from the mean of the periods before."""

    period: Span
    periods: int = Field(default=14, ge=3, le=200)
    threshold: float = Field(gt=0)
    absolute: bool = False
    """Whether `threshold` is a difference from the mean; otherwise in standard deviations."""
    direction: str = Field(default="up", pattern="^(up|down|both)$")
    value: str = ""
    at_least: float = Field(default=1, ge=0)


class FirstSeen(_Part):
    """`first_seen`: a key that no day of the `period` before has had; days of UTC."""

    key: Annotated[Names, Field(min_length=1, max_length=6)]
    period: Span = 14 * 86_400
    learn: Span = 7 * 86_400
    """How long a tenant has been watched by this rule before it says anything."""


class Travel(_Part):
    """`travel`: two places, too far apart."""

    speed_km_h: float = Field(default=900, gt=0)
    distance_km: float = Field(default=500, gt=0)
    within: Span = 86_400


class Raise(_Part):
    """A severity that depends on what matched."""

    to: Severity
    when: str
    """The name of one of the rule's selections."""


class Extension(_Part):
    """The key `m365watch` of a rule."""

    detection: str = Field(default="", max_length=40)
    """Its number in the catalogue: B01."""
    evidence: str = ""
    aliases: Names = ()
    entity: dict[str, str] = Field(default_factory=lambda: {"user": "UserId"}, max_length=6)
    """By kind (user, address, app, mailbox, site, session, ...), the field whose value it is."""
    group_by: Annotated[Names, Field(max_length=6)] = ()
    quiet: Span = 86_400
    once: Span | None = None
    """For `value_count`: of records with the same group and counted value, the first of each such stretch
    counts. What people do all day costs little then; an alert's count is of the records that count."""
    explanation: str = Field(default="", max_length=2_000)
    check: Names = ()
    contain: Names = ()
    building_block: bool = False
    """Whether the rule only serves correlations, whatever they say about generating."""
    risk: int | None = Field(default=None, ge=0, le=100)
    tuning: dict[str, str] = Field(default_factory=dict)
    raises: Annotated[tuple[Raise, ...], Field(alias="raise")] = ()
    kind: Kind | None = None
    several: Several | None = None
    low: Low | None = None
    rolling: Rolling | None = None
    gradient: Change | None = None
    deviation: Deviation | None = None
    first_seen: FirstSeen | None = None
    travel: Travel | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_raise_is_a_list(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("raise"), dict):
            return {**value, "raise": [value["raise"]]}
        if isinstance(value, dict) and "silence" in value and "low" not in value:
            # The issue's own word for Devo's kind.
            return {("low" if key == "silence" else key): one for key, one in value.items()}
        return value

    @model_validator(mode="after")
    def _kind_has_its_numbers(self) -> Extension:
        given = [
            kind.value for kind in Kind if kind is not Kind.EACH and getattr(self, kind.value) is not None
        ]
        if self.kind is None:
            if len(given) > 1:
                raise ValueError(f"has {' and '.join(given)}; a rule is of one kind")
            return self
        if self.kind is Kind.EACH and given:
            raise ValueError(f"says kind each, and has {given[0]}")
        if self.kind is not Kind.EACH and given != [self.kind.value]:
            if self.kind is Kind.TRAVEL and not given:
                return self
            raise ValueError(f"says kind {self.kind}, and lacks the key {self.kind} with its numbers")
        return self

    @property
    def effective_kind(self) -> Kind:
        """The kind that is said, or that whose numbers are given; each where there is neither."""
        if self.kind is not None:
            return self.kind
        return next((kind for kind in Kind if kind is not Kind.EACH and getattr(self, kind.value)), Kind.EACH)


def parse_extension(value: object) -> tuple[Extension, list[str]]:
    """The extension, and a line for each mistake in it; the default one where there are mistakes."""
    if value is None:
        return Extension(), []
    if not isinstance(value, dict):
        return Extension(), ["m365watch: is no map of keys and values"]
    try:
        return Extension.model_validate(value), []
    except ValidationError as error:
        return Extension(), [_line_of(dict(mistake)) for mistake in error.errors(include_url=False)]


def _line_of(mistake: dict[str, Any]) -> str:
    path = ".".join(["m365watch", *(str(part) for part in mistake["loc"])])
    if mistake["type"] == "extra_forbidden":
        return f"{path}: is no key that is known here"
    if mistake["type"] == "missing":
        return f"{path}: is missing"
    text = str(mistake["msg"]).removeprefix("Value error, ")
    return f"{path}: {text[:1].lower()}{text[1:]}"
