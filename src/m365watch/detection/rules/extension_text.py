"""The key `m365watch` of a rule, read: every mistake becomes a line."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from m365watch.detection.rules import extension
from m365watch.detection.rules.containment import why_unknown
from m365watch.detection.rules.diagnostics import Fault, Where
from m365watch.detection.rules.extension import Kind
from m365watch.detection.rules.severity import Severity

_DURATION = re.compile(r"([0-9]{1,9})\s*([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

PERIOD_S_MAX = 90 * 86_400
"""The longest span that a rule may look back over."""


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


def _check_steps(words: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [why for word in words if (why := why_unknown(word))]:
        raise ValueError("; ".join(wrong))
    return words


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, populate_by_name=True)


class _Several(_Part):
    threshold: int = Field(ge=0)
    period: Span
    keys: Names = ()


class _Low(_Part):
    period: Span
    threshold: int = Field(default=0, ge=0)
    learn: Span = 7 * 86_400


class _Rolling(_Part):
    period: Span
    back_period: Span
    threshold: int = Field(default=1, ge=1)


class _Change(_Part):
    period: Span
    threshold: float = Field(gt=0)
    absolute: bool = False
    direction: str = Field(default="up", pattern="^(up|down|both)$")
    value: str = ""
    at_least: float = Field(default=1, ge=0)


class _Deviation(_Part):
    period: Span
    periods: int = Field(default=14, ge=3, le=200)
    threshold: float = Field(gt=0)
    absolute: bool = False
    direction: str = Field(default="up", pattern="^(up|down|both)$")
    value: str = ""
    at_least: float = Field(default=1, ge=0)


class _FirstSeen(_Part):
    key: Annotated[Names, Field(min_length=1, max_length=6)]
    period: Span = 14 * 86_400
    learn: Span = 7 * 86_400


class _Travel(_Part):
    speed_km_h: float = Field(default=900, gt=0)
    distance_km: float = Field(default=500, gt=0)
    within: Span = 86_400


class _Raise(_Part):
    to: Severity
    when: str


class _Extension(_Part):
    """All of it."""

    detection: str = Field(default="", max_length=40)
    evidence: str = ""
    aliases: Names = ()
    entity: dict[str, str] = Field(default_factory=lambda: {"user": "UserId"}, max_length=6)
    group_by: Annotated[Names, Field(max_length=6)] = ()
    without: dict[str, Names] = Field(default_factory=dict, max_length=6)
    quiet: Span = 86_400
    once: Span | None = None
    from_severity: Severity = Severity.INFORMATIONAL
    trusted: str = Field(default="", max_length=200)
    headline: str = Field(default="", max_length=200)
    explanation: str = Field(default="", max_length=4_000)
    check: Names = ()
    contain: Annotated[Names, AfterValidator(_check_steps)] = ()
    building_block: bool = False
    risk: int | None = Field(default=None, ge=0, le=100)
    tuning: dict[str, str] = Field(default_factory=dict)
    raises: Annotated[tuple[_Raise, ...], Field(alias="raise")] = ()
    kind: Kind | None = None
    several: _Several | None = None
    low: _Low | None = None
    rolling: _Rolling | None = None
    gradient: _Change | None = None
    deviation: _Deviation | None = None
    first_seen: _FirstSeen | None = None
    travel: _Travel | None = None

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
    def _kind_has_its_numbers(self) -> _Extension:
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


def parse_extension(value: object) -> tuple[extension.Extension, list[Fault]]:
    """The extension, and each mistake in it; the default one where there are mistakes."""
    if value is None:
        return extension.Extension(), []
    if not isinstance(value, dict):
        return extension.Extension(), [Fault(("m365watch",), "is no map of keys and values")]
    try:
        return _value_of(_Extension.model_validate(value)), []
    except ValidationError as error:
        return extension.Extension(), [
            _fault_of(dict(mistake)) for mistake in error.errors(include_url=False)
        ]


def write_extension(value: extension.Extension) -> dict[str, Any]:
    """The key of a rule that says this: what differs from the defaults, as JSON has it."""
    written: dict[str, Any] = _Extension.model_validate(asdict(value)).model_dump(
        mode="json", by_alias=True, exclude_defaults=True
    )
    return written


def _value_of(model: BaseModel) -> Any:
    """The value of that name which says the same."""
    given = {name: _plain(getattr(model, name)) for name in type(model).model_fields}
    return getattr(extension, type(model).__name__.removeprefix("_"))(**given)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _value_of(value)
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def _fault_of(mistake: dict[str, Any]) -> Fault:
    where: Where = ("m365watch", *mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        known = [one.alias or name for name, one in _model_at(mistake["loc"][:-1]).model_fields.items()]
        return Fault(where, f"is no known key; there are {', '.join(sorted(known))}")
    if mistake["type"] == "missing":
        return Fault(where, "is missing; the key needs it")
    given = mistake.get("ctx", {})
    text = _IN_WORDS.get(mistake["type"], "").format(**given) or str(mistake["msg"]).removeprefix(
        "Value error, "
    )
    return Fault(where, f"{text[:1].lower()}{text[1:]}")


def _model_at(loc: tuple[str | int, ...]) -> type[BaseModel]:
    """What stands at a place: a part of the key, or the key itself."""
    return _PARTS.get(str(loc[0]), _Extension) if loc else _Extension


_PARTS: dict[str, type[BaseModel]] = {
    "raise": _Raise,
    "several": _Several,
    "low": _Low,
    "rolling": _Rolling,
    "gradient": _Change,
    "deviation": _Deviation,
    "first_seen": _FirstSeen,
    "travel": _Travel,
}


_IN_WORDS = {
    "tuple_type": "is neither a text nor a list of texts",
    "string_type": "is no text",
    "model_type": "is no map of keys and values",
    "dict_type": "is no map of keys and values",
    "too_short": "is empty; give one",
    "too_long": "has too many entries; give at most {max_length}",
    "string_too_long": "is too long; give at most {max_length} characters",
    "enum": "is not known; give {expected}",
    "string_pattern_mismatch": "is not known; give up, down or both",
    "int_parsing": "is no whole number",
    "int_type": "is no whole number",
    "int_from_float": "is no whole number",
    "float_parsing": "is no number",
    "float_type": "is no number",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "less_than_equal": "is too large; give at most {le}",
    "greater_than_equal": "is too small; give at least {ge}",
    "greater_than": "is too small; give more than {gt}",
}
"""In place of words about Python's kinds of values."""
