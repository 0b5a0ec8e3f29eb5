"""What a request may ask for beside its path, as values: read strictly, and described from the same place.

A page makes the best of any URL; a program is told what is wrong with its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from m365watch.board.api.problem_details import PARAMETER_WRONG, Refused
from m365watch.board.query.dimension_filters import NEGATED, NOT, OUTCOMES, VALUES_MAX, is_no_network
from m365watch.board.query.query_context import MENTIONS, OPTIONS
from m365watch.board.query.time_range import PRESET, PRESETS, SPAN_MAX_S

TEXT_MAX = 300
VALUE_SHOWN_MAX = 60
_VISIBLE = r"[^\s\x00-\x1f\x7f-\x9f]"
"""What patterns can say of signs that are seen; some more are not, such as those that have no width."""
Values = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One name, what its values may be, and what it means."""

    name: str
    says: str
    schema: Mapping[str, Any]
    """JSON Schema of one value."""
    is_right: Callable[[str], bool]
    wanted: str
    """What a value has to be, in words."""
    repeats: bool = False
    """Whether any of several values counts."""
    in_path: bool = False


def one_of(
    name: str, words: Iterable[str], says: str, *, repeats: bool = False, in_path: bool = False
) -> Parameter:
    """A parameter that is one of some words."""
    known = tuple(words)
    schema = {"type": "string", "enum": list(known)}
    wanted = f"one of {', '.join(known)}"
    return Parameter(name, says, schema, known.__contains__, wanted, repeats, in_path)


def text(name: str, says: str, *, repeats: bool = False, longest: int = TEXT_MAX) -> Parameter:
    """A parameter that is any text, but none of spaces alone, or of signs that nobody sees."""
    schema = {"type": "string", "minLength": 1, "maxLength": longest, "pattern": _VISIBLE}
    wanted = f"a text of 1 to {longest:,} characters, not all of them invisible"

    def is_right(one: str) -> bool:
        return 0 < len(one) <= longest and any(sign.isprintable() and not sign.isspace() for sign in one)

    return Parameter(name, says, schema, is_right, wanted, repeats)


def whole(name: str, says: str, least: int, most: int, *, repeats: bool = False) -> Parameter:
    """A parameter that is a whole number."""
    schema = {"type": "integer", "minimum": least, "maximum": most}

    def is_right(one: str) -> bool:
        return one.isascii() and one.isdigit() and len(one) <= len(str(most)) and least <= int(one) <= most

    return Parameter(name, says, schema, is_right, f"a whole number from {least} to {most:,}", repeats)


def matching(name: str, pattern: str, says: str, wanted: str, *, in_path: bool = False) -> Parameter:
    """A parameter of a given form."""
    form = re.compile(pattern, re.ASCII)
    schema = {"type": "string", "pattern": f"^{pattern}$"}
    return Parameter(name, says, schema, lambda one: form.fullmatch(one) is not None, wanted, False, in_path)


def instant(name: str, says: str) -> Parameter:
    """A parameter that is an instant."""
    schema = {"type": "string", "format": "date-time"}
    return Parameter(
        name, says, schema, lambda one: instant_of(one) is not None, "an instant: 2026-11-24T09:00:00Z"
    )


def _address(name: str, says: str) -> Parameter:
    """A parameter that is an address, a network, or a text with `*` in it."""
    plain = text(name, says, repeats=True)
    wanted = (
        f"an address, a network as 203.0.113.0/24, or another text: {plain.wanted.removeprefix('a text ')}"
    )
    return replace(plain, is_right=lambda one: plain.is_right(one) and not is_no_network(one), wanted=wanted)


TIME = (
    one_of("range", PRESETS, f"The time, up to now; left out, with `from` and `to` as well: {PRESET}."),
    instant("from", "The start of the time, in place of `range`. More than 6 hours begin with a full hour."),
    instant("to", "Its end, which does not belong to it; left out: now."),
)
_NARROWING = (
    text("tenant", "The tenant's id.", repeats=True),
    text("workload", "The workload, as records name it.", repeats=True),
    whole("type", "The number of the record type.", 0, 999_999_999, repeats=True),
    text("operation", "The operation.", repeats=True),
    text("user", "Who did it.", repeats=True),
    whole("usertype", "The number of the user type.", 0, 999_999_999, repeats=True),
    one_of("result", OUTCOMES, "What came of it.", repeats=True),
    _address("ip", "The address, or a network."),
    text("app", "The application's id.", repeats=True),
)
NARROWING = (
    *_NARROWING,
    *(
        replace(one, name=f"{NOT}{one.name}", says=f"{one.says[:-1]}, which it must not be.")
        for one in _NARROWING
        if f"{NOT}{one.name}" in NEGATED
    ),
)
_OPTIONS_SAY = {
    "then_from": "When the time begins that is compared with, in UTC, where `by` is `chosen`.",
    "then_to": "When it ends.",
    "sheet": "Which part of a long table: 1 is what comes after the first.",
    "lanes": "Of what the timeline has all lanes, and not only the most frequent and the rarest.",
    "by": "How a panel that can be shown in several ways is: its `choices` name them.",
    "alert": "The alert that the panel is about: its id, or 4 or more of its first digits.",
    "state": "Which alerts: open (as where it is left out), acknowledged, active for both, closed or all.",
    "severity": "Which alerts: medium, high, critical and what is worse, informational for all, or only-high,"
    " only-medium, only-low, signals alone.",
    "rule": "Only alerts of this rule, by its id.",
    "technique": "Only alerts with this technique of ATT&CK.",
    "session": "The session that the investigation is about.",
    "mailbox": "The mailbox that it is about.",
    "site": "The site that it is about.",
    "text": "A text that its records hold.",
    "q": "A filter, as docs/search.md says how they are written.",
    "record": "The record: its time in seconds, a colon, and its id, as in the URLs of records.",
}
_LONGEST = {"q": 2_000}
_ABOUT_ALERTS = frozenset({"state", "severity", "rule", "technique"})
_ON_PAGES = {"alert": ("alert",), "record": ("record",), "q": ("search",), "sql": ()} | {
    **dict.fromkeys(("instance", "template", "past"), ("instance",)),
    "sheet": ("trail", "alerts"),
    **dict.fromkeys(_ABOUT_ALERTS, ("alerts",)),
    **dict.fromkeys((*MENTIONS, "then_from", "then_to", "lanes"), ("investigate",)),
}
"""The pages that an option is for; of one that is not here, all."""


def option(name: str, words: Iterable[str] = ()) -> Parameter:
    """An option of a page, which is one of some words if there are any."""
    says = _OPTIONS_SAY.get(name, f"The option `{name}` of the page.")
    if known := tuple(words):
        return one_of(name, known, says)
    return text(name, says, longest=_LONGEST.get(name, TEXT_MAX))


def options_of(page: str, choices: Mapping[str, Iterable[str]]) -> tuple[Parameter, ...]:
    """What the panels of a page may be asked for beside their time and what narrows them."""
    return tuple(
        option(name, choices.get(name, ()))
        for name in OPTIONS
        if (name in choices if name == "by" else page in _ON_PAGES.get(name, (page,)))
    )


def read_values(
    parameters: Sequence[Parameter], given: Iterable[tuple[str, str]]
) -> dict[str, tuple[str, ...]]:
    """The values by name. Raises: Refused: an unknown name, a value that cannot be, or one too many."""
    known = {one.name: one for one in parameters}
    found: dict[str, list[str]] = {}
    for name, value in given:
        parameter = known.get(name)
        if parameter is None:
            names = ", ".join(known) or "none"
            raise Refused(PARAMETER_WRONG, f"there is no parameter {_shown(name)} here; there are: {names}")
        if not parameter.is_right(value):
            raise Refused(PARAMETER_WRONG, f"{name}: {_shown(value)} is not {parameter.wanted}")
        values = found.setdefault(name, [])
        values.append(value)
        if len(values) > (VALUES_MAX if parameter.repeats else 1):
            most = f"{VALUES_MAX} values" if parameter.repeats else "one value"
            raise Refused(PARAMETER_WRONG, f"{name}: it can have {most} at most")
    return {name: tuple(dict.fromkeys(values)) for name, values in found.items()}


def time_pairs(values: Values, now: datetime) -> list[tuple[str, str]]:
    """What `range`, `from` and `to` mean, as a URL of the pages has it. Raises: Refused."""
    if "from" not in values and "to" not in values:
        return [("range", one) for one in values.get("range", ())]
    if "range" in values:
        raise Refused(PARAMETER_WRONG, "range: it does not go with from and to")
    if "from" not in values:
        raise Refused(PARAMETER_WRONG, "to: it goes with from alone")
    start, end = instant_of(values["from"][0]), instant_of(values["to"][0]) if "to" in values else now
    assert start is not None and end is not None  # noqa: S101, PT018 - they were checked
    start_s, end_s = int(start.timestamp()), int(end.timestamp())
    if not 0 <= start_s < end_s or end_s - start_s > SPAN_MAX_S:
        raise Refused(
            PARAMETER_WRONG, f"from, to: the start is before the end, and {SPAN_MAX_S // 86_400} days at most"
        )
    return [("from", str(start_s)), ("to", str(end_s))]


def instant_of(value: str) -> datetime | None:
    """The instant; UTC where it names no zone; None where it is none."""
    try:
        at = datetime.fromisoformat(value)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        at.timestamp()
    except (ValueError, OverflowError):
        return None
    return at


def _shown(value: str) -> str:
    cut = value if len(value) <= VALUE_SHOWN_MAX else f"{value[:VALUE_SHOWN_MAX]}..."
    return ascii(cut)
