"""What has to be so, of a single field, before a rule can be fulfilled at all.

Most rules need some text in some field. To ask that alone is cheap: few fields are decoded, and the same
few values come again and again, so that the answer is remembered by value. Only a record that passes is
looked at in full. A guard may let records through that the rule then refuses; it holds none back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Raw

from m365watch.detection.engine.value_cache import Memory, Remembered
from m365watch.detection.fields.field_catalog import needs_of
from m365watch.detection.fields.record_view import MAPS, Value, leaves_of, text_of
from m365watch.detection.rules.condition import (
    Compared,
    Condition,
    ContainsOneOf,
    Every,
    Exists,
    Like,
    Matches,
    Never,
    OneOf,
    Some,
    Test,
    Wildcard,
)
from m365watch.detection.rules.condition_compiler import OPENING, compile_text_test

Guard = tuple[Test, ...]
"""At least one of these tests passes where the rule is fulfilled."""
_Rules = dict[str, tuple[str, ...]]
"""Words in small letters, and the ids of the rules that look for each."""

_SAFE = re.compile(r"[a-z0-9 _.@-]+")
"""Characters that JSON writes as they are, and none that it sets between values."""
_ESCAPED = re.compile(rb"\\\\?u(?:00[2-7]|212[aA]|0130)")
"""A plain letter that is written as its number after all, or one whose small form is plain."""
_DERIVED_SOURCES = {
    "m365.user_agent": ("ExtendedProperties", "UserAgent", "ClientInfoString", "ActorInfoString"),
    "m365.app": ("ClientAppId", "ApplicationId", "AppId", "AppAccessContext"),
}
RAW_FIELDS = MAPS | {"AppAccessContext"}
"""Fields that hold other fields: their JSON text is searched, which is cheaper than to decode it."""
WORD_CHARS_MIN = 4
WORDS_MAX = 40

TESTS_MAX = 12
"""Tests of one guard; beyond it the rule is cheaper to ask itself."""
VALUE_CHARS_MAX = 512
"""Longer values are not remembered."""

_FEW = frozenset(
    [
        "ResultStatus",
        "UserType",
        "LogonType",
        "ErrorNumber",
        "LogonError",
        "ClientIP",
        "ClientIPAddress",
        "ActorIpAddress",
        "UserAgent",
        "ClientInfoString",
        "ApplicationId",
        "ClientAppId",
        "AppId",
        "UserId",
        "TargetUserOrGroupType",
    ]
)
"""Fields of which a feed has few different values."""


def find_guard(condition: Condition) -> Guard | None:
    """The cheapest guard of a condition; None where there is none."""
    match condition:
        case Test(str() as name, Like() | OneOf() | ContainsOneOf() | Matches()):
            sources = sources_of(name)
            if not sources:
                return (condition,) if needs_of(name) == (name,) and name not in MAPS else None
            words = words_of(condition)
            return tuple(Test(source, ContainsOneOf(words)) for source in sources) if words else None
        case Test(str() as name, Compared()) if needs_of(name) == (name,) and name not in MAPS:
            return (condition,)
        case Test(str() as name, Exists(True)) if name.partition(".")[0] in MAPS:
            words = _name_words(name)
            return tuple(Test(source, ContainsOneOf(words)) for source in sources_of(name)) if words else None
        case Every(parts):
            found = [guard for part in parts if (guard := find_guard(part)) is not None]
            return min(found, key=_cost, default=None)
        case Some(parts):
            every = [find_guard(part) for part in parts]
            joined = tuple(test for guard in every if guard is not None for test in guard)
            return joined if None not in every and len(joined) <= TESTS_MAX else None
    return None


def sources_of(name: str) -> tuple[str, ...]:
    """The top fields in which the texts of a field stand that is not one of them; none where it is."""
    if name in _DERIVED_SOURCES:
        return _DERIVED_SOURCES[name]
    top = name.partition(".")[0]
    return (top,) if top in MAPS else ()


def words_of(test: Test) -> tuple[str, ...]:
    """Words of which one stands in the JSON text of the source where the test passes; none if unknown.

    They are of characters that are never written in another way, so that they are found without decoding.
    """
    texts: list[str] = []
    match test.comparison:
        case Like(parts):
            plain = [_longest_safe(part) for part in parts if not isinstance(part, Wildcard)]
            texts = [max(plain, key=len, default="")]
        case OneOf(values):
            texts = [_longest_safe(value) for value in values]
        case ContainsOneOf(values):
            texts = [_longest_safe(value) for value in values]
    is_telling = texts and all(len(text) >= WORD_CHARS_MIN and not text.isdigit() for text in texts)
    if is_telling and len(texts) <= WORDS_MAX and not {"true", "false"} & set(texts):
        return tuple(dict.fromkeys(texts))
    return _name_words(test.field or "")


def _name_words(name: str) -> tuple[str, ...]:
    """The first part of a property's name, which stands in the text wherever the property does."""
    top, _, rest = name.partition(".")
    first = rest.partition(".")[0].lower()
    return (first,) if top in MAPS and first and _SAFE.fullmatch(first) else ()


def _longest_safe(text: str) -> str:
    return max((run.strip() for run in _SAFE.findall(text.lower())), key=len, default="")


def _cost(guard: Guard) -> float:
    """How much a guard costs, and how much it lets through; only their order matters."""
    return sum(_test_cost(test) for test in guard)


def _test_cost(test: Test) -> float:
    field = test.field or ""
    reading = 1.0 if field in _FEW else 3.0 if "." not in field else 6.0
    match test.comparison:
        case OneOf():
            return reading
        case Like(parts):
            longest = max((len(part) for part in parts if isinstance(part, str)), default=0)
            return reading + (0.5 if longest >= 4 else 8.0)
        case ContainsOneOf(values):
            shortest = min((len(value) for value in values), default=0)
            return reading + (1.0 if shortest >= 4 else 8.0)
    return reading + 2.0


class Probe:
    """One field, and the guards that ask it."""

    __slots__ = (
        "_answers",
        "_contains",
        "_ends",
        "_ends_any",
        "_equals",
        "_memory",
        "_others",
        "_rules",
        "_starts",
        "_starts_any",
        "field",
        "is_raw",
    )

    def __init__(self, name: str, tests: Sequence[tuple[Test, str]], memory: Memory) -> None:
        """Each test with the id of its rule."""
        self.field = name
        self.is_raw = name in RAW_FIELDS
        """Whether it looks at the JSON text of the field, and not at its value."""
        self._answers = Remembered[object, tuple[str, ...]](self._ask_raw if self.is_raw else self._ask_plain)
        memory.watch(self._answers)
        self._memory = memory
        self._equals: _Rules = {}
        self._contains: _Rules = {}
        self._starts: _Rules = {}
        self._ends: _Rules = {}
        self._others: list[tuple[Callable[[str], bool], str]] = []
        self._rules = tuple({rule_id for _, rule_id in tests})
        for test, rule_id in tests:
            self._sort_in(test, rule_id)
        self._starts_any, self._ends_any = tuple(self._starts), tuple(self._ends)

    def ask(self, values: Sequence[object]) -> list[tuple[str, ...]]:
        """For each value of the field, the ids of the rules whose guard passes; None is in no record."""
        try:
            return list(map(self._answers.__getitem__, values))
        except TypeError:
            # A list, an object or a JSON text is not known by what it is.
            known, ask = self._answers, self._answers.work_out
            return [known[one] if type(one) is str else ask(one) for one in values]

    def _ask_raw(self, value: object) -> tuple[str, ...]:
        """The ids of the rules of whose words one stands in the field's JSON text."""
        if value is None:
            return self._answers.setdefault(None, ())
        text = bytes(value) if isinstance(value, Raw) else b""
        if _ESCAPED.search(text):
            return self._rules
        return self._passing(text.decode("utf-8", "replace"))

    def _sort_in(self, test: Test, rule_id: str) -> None:
        """Texts without wildcards inside, which is most, are looked for in the lower-case value at once."""
        match test.comparison:
            case _ if self.field == "Operation":
                # Asked where the header could not be read; its texts are compared in a form of their own.
                self._others.append((compile_text_test(test), rule_id))
            case OneOf(values):
                _put(self._equals, values, rule_id)
            case ContainsOneOf(values, where):
                _put({"start": self._starts, "end": self._ends}.get(where, self._contains), values, rule_id)
            case Like((str() as word,), False):
                _put(self._equals, (word,), rule_id)
            case Like((Wildcard.MANY, str() as word, Wildcard.MANY), False):
                _put(self._contains, (word,), rule_id)
            case Like((str() as word, Wildcard.MANY), False):
                _put(self._starts, (word,), rule_id)
            case Like((Wildcard.MANY, str() as word), False):
                _put(self._ends, (word,), rule_id)
            case _:
                self._others.append((compile_text_test(test), rule_id))

    def _ask_plain(self, value: object) -> tuple[str, ...]:
        """The ids of the rules whose guard passes on what stands in the field; most values come again."""
        if type(value) is not str:
            return self._answers.setdefault(None, ()) if value is None else self._ask_values(leaves_of(value))
        # Most fields are plain texts; what may hold more than one value begins with a bracket or a quote.
        plain = value[:1] not in OPENING
        passing = self._passing(value) if plain else self._ask_values(leaves_of(value))
        if len(value) <= VALUE_CHARS_MAX:
            self._answers[value] = passing
            self._memory.values += 1
        return passing

    def _ask_values(self, values: tuple[Value, ...]) -> tuple[str, ...]:
        found: tuple[str, ...] = ()
        for value in values:
            found += self._passing(value if type(value) is str else text_of(value))
        return found

    def _passing(self, text: str) -> tuple[str, ...]:
        folded = text.lower()
        found = self._equals.get(folded, ())
        for word in self._contains:
            if word in folded:
                found += self._contains[word]
        # Nearly no value begins or ends as one of many rules wants it, which one call tells of them all.
        if folded.startswith(self._starts_any):
            found += _rules_where(self._starts, folded.startswith)
        if folded.endswith(self._ends_any):
            found += _rules_where(self._ends, folded.endswith)
        for test, rule_id in self._others:
            if test(text):
                found += (rule_id,)
        return found


def _put(words: _Rules, values: Iterable[str], rule_id: str) -> None:
    for value in values:
        words[value.lower()] = (*words.get(value.lower(), ()), rule_id)


def _rules_where(words: _Rules, holds: Callable[[str], bool]) -> tuple[str, ...]:
    """The rules of all words of which it holds."""
    return tuple([one for word, rules in words.items() if holds(word) for one in rules])


class Probes:
    """The probes for all kinds of records: where the same rules ask the same of a field, one is enough."""

    def __init__(self, memory: Memory) -> None:
        """`memory` is where they remember."""
        self._memory = memory
        self._made: dict[object, Probe] = {}

    def of(self, guards: Mapping[str, Guard]) -> tuple[Probe, ...]:
        """A probe for each field that the guards ask, by the ids of their rules."""
        by_field: dict[str, list[tuple[Test, str]]] = {}
        for rule_id, guard in guards.items():
            for test in guard:
                by_field.setdefault(test.field or "", []).append((test, rule_id))
        return tuple([self._of_field(name, tests) for name, tests in by_field.items()])

    def _of_field(self, name: str, tests: Sequence[tuple[Test, str]]) -> Probe:
        asked = tuple(tests)
        if asked not in self._made:
            self._made[asked] = Probe(name, tests, self._memory)
        return self._made[asked]

    def drop(self) -> None:
        """Nobody asks any more."""
        self._made.clear()


def specialise(condition: Condition, holds: Callable[[Test], bool | None]) -> Condition | bool:
    """The condition with what is known put in: True, False, or what is left to be asked.

    `holds` answers for a test whose field is known, and None for any other.
    """
    match condition:
        case Test(_, _):
            known = holds(condition)
            return condition if known is None else known
        case Never(part):
            inner = specialise(part, holds)
            return (not inner) if isinstance(inner, bool) else Never(inner)
        case Every(parts):
            return _joined([specialise(part, holds) for part in parts], every=True)
        case Some(parts):
            return _joined([specialise(part, holds) for part in parts], every=False)
    return condition


def _joined(parts: list[Condition | bool], *, every: bool) -> Condition | bool:
    if (not every) in parts:
        return not every
    left = tuple(part for part in parts if not isinstance(part, bool))
    if not left:
        return every
    if len(left) == 1:
        return left[0]
    return Every(left) if every else Some(left)
