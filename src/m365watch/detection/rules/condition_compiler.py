"""A condition as a closure over a `View`: what can be worked out once is worked out here.

Texts are compared without regard to case, as Sigma says, and operations in their normal form. A
test holds if any of the field's values passes. Regular expressions run in RE2, whose time
is linear in the text whatever the pattern: a rule of a user's cannot stall the collector. Sigma's own
subset of regular expressions has nothing that RE2 lacks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network

import re2

from m365watch.common.timestamps import EPOCH, ms_of
from m365watch.detection.fields.ip_addresses import parse_address
from m365watch.detection.fields.operations import normalise_operation, spell_operation
from m365watch.detection.fields.record_view import Value, View, every_value, reader_of, text_of
from m365watch.detection.rules.condition import (
    ORDERS,
    Compared,
    ComparedTime,
    Comparison,
    Condition,
    ContainsOneOf,
    Every,
    Exists,
    InNetwork,
    IsNull,
    Like,
    Matches,
    Never,
    OneOf,
    Order,
    SameAs,
    Some,
    Test,
    TimePart,
    Wildcard,
)

Predicate = Callable[[View], bool]
TextTest = Callable[[str], bool]

_OPERATIONS = ("Operation", "m365.operation")
_INSTANT_MAX = 40
_NAIVE_EPOCH = EPOCH.replace(tzinfo=None)
"""A time without a zone is of UTC."""
_SECONDS_CHARS = len("2026-11-10T17:09:36")
OPENING = frozenset({"[", '"'})
_BACK_REFERENCE = re.compile(r"invalid escape sequence: \\[1-9]")


class BadPattern(ValueError):
    """A regular expression that RE2 does not take; says why."""


def compile_condition(condition: Condition) -> Predicate:
    """Whether a view fulfils the condition.

    Raises: BadPattern: a regular expression cannot be used.
    """
    match condition:
        case Test(field, comparison):
            return _compile_test(field, comparison)
        case Never(part):
            inner = compile_condition(part)
            return lambda view: not inner(view)
        case Every(parts):
            return _all_of([compile_condition(part) for part in parts])
        case Some(parts):
            return _any_of([compile_condition(part) for part in parts])


def _all_of(parts: list[Predicate]) -> Predicate:
    if len(parts) == 2:
        first, second = parts
        return lambda view: first(view) and second(view)

    def holds(view: View) -> bool:
        for part in parts:  # noqa: SIM110 - a loop costs half of what all() and its generator do
            if not part(view):
                return False
        return True

    return holds


def _any_of(parts: list[Predicate]) -> Predicate:
    def holds(view: View) -> bool:
        for part in parts:  # noqa: SIM110 - a loop costs half of what any() and its generator do
            if part(view):
                return True
        return False

    return holds


@lru_cache(maxsize=65_536)
def _compile_test(field: str | None, comparison: Comparison) -> Predicate:
    """The test's closure; the same test of many rules, and of many kinds of records, is compiled once."""
    if field is None:
        return _keyword(_text_test(comparison, field=""))
    match comparison:
        case Exists(wanted):
            return lambda view: bool(view.values(field)) is wanted
        case IsNull():
            return lambda view: not view.values(field)
        case SameAs(other, place):
            return _same_as(field, other, place=place)
        case Compared(order, number):
            return _compared(field, order, number)
        case ComparedTime(part, order, number):
            return _compared_time(field, part, order=order, number=number)
        case InNetwork(network):
            return _in_network(field, network)
        case _:
            return _texts(field, _text_test(comparison, field=field))


def _texts(field: str, test: TextTest) -> Predicate:
    if "." in field:
        return _texts_of_values(field, test)
    read = _texts_of_values(field, test)

    def holds(view: View) -> bool:
        value = view.record.get(field)
        # Most fields are plain texts; what may hold more than one value begins with a bracket or a quote.
        if type(value) is str and value[:1] not in OPENING:
            return test(value)
        return value is not None and read(view)

    return holds


def _texts_of_values(field: str, test: TextTest) -> Predicate:
    read = reader_of(field)

    def holds(view: View) -> bool:
        values = view.read.get(field)
        if values is None:
            values = view.read[field] = read(view)
        for value in values:  # noqa: SIM110 - the innermost loop of all
            if test(value if type(value) is str else text_of(value)):
                return True
        return False

    return holds


def _keyword(test: TextTest) -> Predicate:
    """Whether some value of the whole record passes."""

    def holds(view: View) -> bool:
        return any(test(text) for text in every_value(dict(view.record)))

    return holds


@lru_cache(maxsize=65_536)
def compile_text_test(test: Test) -> TextTest:
    """Whether a text passes a test that is about texts. Raises: BadPattern."""
    return _text_test(test.comparison, field=test.field or "")


def _text_test(comparison: Comparison, *, field: str) -> TextTest:
    fold: Callable[[str], str] = normalise_operation if field in _OPERATIONS else str.lower
    match comparison:
        case Like(parts, cased):
            return _like(parts, cased=cased, fold=fold)
        case OneOf(values):
            folded = frozenset(fold(value) for value in values)
            return lambda text: fold(text) in folded
        case ContainsOneOf(values, place, unless):
            holds = _contains_one_of(tuple(fold(value) for value in values), place=place, fold=fold)
            if not unless:
                return holds
            spoils = _contains_one_of(tuple(fold(value) for value in unless), place="anywhere", fold=fold)
            return lambda text: holds(text) and not spoils(text)
        case Matches(pattern):
            return _matches(pattern, turn=spell_operation if field in _OPERATIONS else str)
        case Compared(order, number) if field:
            compare = ORDERS[order]
            return lambda text: (found := number_of(text)) is not None and compare(found, number)
        case Compared() | ComparedTime() | InNetwork() | Exists() | IsNull() | SameAs():
            raise BadPattern("a keyword without a field can only be a text")


def _like(parts: tuple[str | Wildcard, ...], *, cased: bool, fold: Callable[[str], str]) -> TextTest:
    shape = tuple(part if isinstance(part, Wildcard) else "" for part in parts)
    words = [part if cased else _folded(part, fold) for part in parts if not isinstance(part, Wildcard)]
    turn: Callable[[str], str] = str if cased else fold
    many = Wildcard.MANY
    if not parts:
        return lambda text: text == ""
    match shape:
        case ("",):
            word = words[0] if cased else fold(words[0])
            return lambda text: turn(text) == word
        case (Wildcard.MANY,):
            return lambda _text: True
        case (first, "", last) if first is many and last is many:
            word = words[0]
            return lambda text: word in turn(text)
        case ("", last) if last is many:
            word = words[0]
            return lambda text: turn(text).startswith(word)
        case (first, "") if first is many:
            word = words[0]
            return lambda text: turn(text).endswith(word)
    return _matches(_pattern_of(parts, cased=cased, fold=fold), turn=turn)


def _folded(part: str, fold: Callable[[str], str]) -> str:
    """A word beside a wildcard keeps its blanks at both ends, which the normal form of a whole name lacks."""
    if fold is normalise_operation:
        before = part[: len(part) - len(part.lstrip())]
        after = part[len(part.rstrip()) :] if part.strip() else ""
        return f"{before}{fold(part)}{after}"
    return fold(part)


def _pattern_of(parts: tuple[str | Wildcard, ...], *, cased: bool, fold: Callable[[str], str]) -> str:
    pieces = []
    for part in parts:
        if part is Wildcard.MANY:
            pieces.append(".*")
        elif part is Wildcard.ONE:
            pieces.append(".")
        else:
            pieces.append(re2.escape(part if cased else _folded(part, fold)))
    return rf"(?s)\A{''.join(pieces)}\z"


def _matches(pattern: str, *, turn: Callable[[str], str] = str) -> TextTest:
    search = compile_pattern(pattern).search
    # RE2 takes no lone surrogates, which JSON may escape.
    return lambda text: search(turn(text).encode("utf-8", "replace")) is not None


def compile_pattern(pattern: str) -> re2.Pattern:
    """The pattern as RE2 has it, which writes nothing of its own. Raises: BadPattern."""
    try:
        return re2.compile(pattern, _quiet_options())
    except re2.error as error:
        reason = error.args[0] if error.args else "is refused"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise BadPattern(_told(pattern, text)) from None


def _told(pattern: str, reason: str) -> str:
    told = f"the regular expression '{pattern[:120]}' cannot be used: "
    if "invalid perl operator" in reason or _BACK_REFERENCE.search(reason):
        return f"{told}RE2 knows neither look-around nor references back; use a second selection with `not`"
    return f"{told}{reason.removesuffix(': ' + pattern)}; mend it, or use contains, startswith or endswith"


def _quiet_options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    return options


def _contains_one_of(values: tuple[str, ...], *, place: str, fold: Callable[[str], str]) -> TextTest:
    if place == "start":
        return lambda text: fold(text).startswith(values)
    if place == "end":
        return lambda text: fold(text).endswith(values)

    def holds(text: str) -> bool:
        folded = fold(text)
        for value in values:  # noqa: SIM110 - the innermost loop of all
            if value in folded:
                return True
        return False

    return holds


def _compared(field: str, order: Order, number: float) -> Predicate:
    compare = ORDERS[order]

    def holds(view: View) -> bool:
        return any(
            compare(found, number) for value in view.values(field) if (found := number_of(value)) is not None
        )

    return holds


def number_of(value: Value) -> float | None:
    """A value as a number: its own, or what its text says; None for what is none, and for booleans."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _finite(value)
    if len(value) > _INSTANT_MAX:
        return None
    return _finite(value)


def _finite(value: float | str) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if number - number == 0 else None


def _compared_time(field: str, part: TimePart, *, order: Order, number: float) -> Predicate:
    compare = ORDERS[order]

    def holds(view: View) -> bool:
        return any(
            compare(_part_of(at, part), number)
            for value in view.values(field)
            if (at := read_instant(value)) is not None
        )

    return holds


def read_instant(value: Value) -> datetime | None:
    """The instant that a record's text names, in UTC where it says no zone; None for what is none."""
    if not isinstance(value, str) or len(value) > _INSTANT_MAX:
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (OverflowError, ValueError):
        return None


def read_ms(text: str) -> int | None:
    """The same in milliseconds since 1970; quick for what the service writes: whole seconds of UTC."""
    if len(text) == _SECONDS_CHARS:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            return _slow_ms(text)
        if at.tzinfo is None and not at.microsecond:
            since = at - _NAIVE_EPOCH
            return (since.days * 86_400 + since.seconds) * 1000
    return _slow_ms(text)


def _slow_ms(text: str) -> int | None:
    found = read_instant(text)
    return None if found is None else ms_of(found)


def _part_of(at: datetime, part: TimePart) -> int:
    if part is TimePart.WEEK:
        return at.isocalendar().week
    return int(getattr(at, part.value))


def _in_network(field: str, network: IPv4Network | IPv6Network) -> Predicate:
    def holds(view: View) -> bool:
        for value in view.values(field):
            address = parse_address(value) if isinstance(value, str) else None
            if address is not None and address.version == network.version and address in network:
                return True
        return False

    return holds


def _same_as(field: str, other: str, *, place: str) -> Predicate:
    def holds(view: View) -> bool:
        texts = [text_of(value).lower() for value in view.values(other)]
        return any(_stands_at(text_of(value).lower(), texts, place) for value in view.values(field))

    return holds


def _stands_at(text: str, others: list[str], place: str) -> bool:
    if place == "start":
        return any(text.startswith(one) for one in others)
    if place == "end":
        return any(text.endswith(one) for one in others)
    if place == "anywhere":
        return any(one in text for one in others)
    return text in others
