"""A rule's condition as a LINQ expression that is true or false for every record, and never null.

In LINQ a condition on what is absent is neither, and `not` of it is neither too: so that a `not` would
drop the very records that it is meant to let through. Hence every text is asked for with an empty one in
its place.
"""

from __future__ import annotations

from m365watch.detection.export.linq import linq_syntax as linq
from m365watch.detection.export.linq.derived_columns import ask_derived, normal_operation
from m365watch.detection.export.linq.devo_schema import Columns, Place
from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.fields.operations import normalise_operation
from m365watch.detection.rules.condition import (
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
    Wildcard,
)

_SIGNS = {
    Order.LESS: "<",
    Order.AT_MOST: "<=",
    Order.MORE: ">",
    Order.AT_LEAST: ">=",
    Order.EQUAL: "=",
    Order.OTHER: "!=",
}
_IN_TEXT = r'[^"\\]*(?:\\.[^"\\]*)*?'
_FAR = 1_000_000_000_000


def sign_of(order: Order) -> str:
    """How LINQ writes the comparison."""
    return _SIGNS[order]


def ask(condition: Condition, columns: Columns) -> str:
    """The condition as an expression over `columns`, which get what it needs. Raises: Unsayable."""
    match condition:
        case Every(parts):
            return linq.all_of(ask(part, columns) for part in parts)
        case Some(parts):
            return linq.any_of(ask(part, columns) for part in _merged(parts))
        case Never(part):
            with columns.negated():
                return linq.negated(ask(part, columns))
        case Test(field, comparison):
            return _ask_test(field, comparison, columns)


def _merged(parts: tuple[Condition, ...]) -> list[Condition]:
    """The alternatives, with the regular expressions about one field made one."""
    patterns: dict[str, list[str]] = {}
    others: list[Condition] = []
    for part in parts:
        match part:
            case Test(str() as field, Matches(pattern)):
                patterns.setdefault(field, []).append(pattern)
            case _:
                others.append(part)
    merged = [
        Test(field, Matches(one)) for field, found in patterns.items() for one in linq.merge_patterns(found)
    ]
    return [*others, *merged]


def _ask_test(field: str | None, comparison: Comparison, columns: Columns) -> str:
    if field is None:
        return _ask_anywhere(comparison, columns)
    if field in ("Operation", "m365.operation"):
        return _ask_operation(normal_operation(columns), _normal(comparison))
    derived = ask_derived(field, comparison, columns, ask_test=_ask_test)
    if derived is not None:
        return derived
    if isinstance(comparison, ContainsOneOf) and comparison.unless:
        return _ask_unless(field, comparison, columns)
    place = columns.place(field)
    if place is not None:
        return _ask_inside(place, comparison)
    if isinstance(comparison, SameAs):
        return _ask_same(columns.text(field), columns.text(comparison.field), comparison.place)
    column = columns.text(field)
    if field.startswith("ModifiedProperties."):
        return _ask_property(field, column, comparison, columns)
    return _ask_text(column, comparison)


def _ask_unless(field: str, comparison: ContainsOneOf, columns: Columns) -> str:
    """Whether a value holds a part and none of others: values that hold those are taken out first."""
    place = columns.place(field)
    bare = ContainsOneOf(comparison.values, comparison.place)
    if place is None:
        spoilt = _ask_test(field, ContainsOneOf(comparison.unless), columns)
        return linq.all_of([_ask_test(field, bare, columns), linq.negated(spoilt)])
    choice = "|".join(linq.json_pattern((one,)) for one in comparison.unless)
    spoilt = rf'(?i)"{linq.json_pattern((place.key,))}"\s*:\s*"{_IN_TEXT}(?:{choice}){_IN_TEXT}"'
    text = linq.never_null(place.column)
    left = columns.make(f"{field}_left", f'subsall({text}, {linq.pattern(spoilt)}, template(""))')
    return _ask_inside(Place(left, place.key), bare)


def _ask_operation(column: str, comparison: Comparison) -> str:
    """An operation in its normal form is never null, and in lower case already."""
    match comparison:
        case OneOf(values):
            return linq.one_of(column, values)
        case Like((str() as word,), _):
            return linq.one_of(column, (normalise_operation(word),))
    return _ask_text(column, comparison)


def _normal(comparison: Comparison) -> Comparison:
    """The comparison with texts in the form that operations have."""
    match comparison:
        case Like(parts, _):
            return Like(tuple(one if isinstance(one, Wildcard) else _normal_part(one) for one in parts))
        case OneOf(values):
            return OneOf(frozenset(map(normalise_operation, values)))
        case ContainsOneOf(values, place):
            return ContainsOneOf(tuple(map(_normal_part, values)), place)
    return comparison


def _normal_part(part: str) -> str:
    return f"x{part}x".translate({0x2013: "-"}).lower()[1:-1]


def _ask_text(column: str, comparison: Comparison) -> str:
    """Whether the column's text passes."""
    text = linq.never_null(column)
    match comparison:
        case Exists(wanted):
            found = f'nvl({column}, "null") != "null"'
            return found if wanted else linq.negated(found)
        case IsNull():
            return f'nvl({column}, "null") = "null"'
        case Like(parts, cased):
            return _ask_like(column, parts, cased=cased)
        case OneOf(values):
            found = linq.one_of(f"lower({text})", values)
            return f"(isnotnull({column}) and {found})" if "" in values else found
        case ContainsOneOf(values, place):
            start, end = _ends(place)
            choice = "|".join(linq.escaped(one) for one in sorted(values))
            return linq.matches(text, f"(?i){start}(?:{choice}){end}")
        case Matches(pattern):
            return f"(isnotnull({column}) and {linq.matches(text, pattern)})"
        case Compared(order, number):
            return _ask_number(column, order, number)
        case InNetwork(network):
            kind = "ip4" if network.version == 4 else "ip6"
            net = "net4" if network.version == 4 else "net6"
            return f'nvl({kind}({text}) <- {net}("{network}"), false)'
        case ComparedTime():
            raise Unsayable("a part of a time is asked of a text, which Devo reads in one form only")
    raise Unsayable(f"a comparison of the kind {type(comparison).__name__} has no word there")


def _ends(place: str) -> tuple[str, str]:
    return ("^" if place == "start" else "", "$" if place == "end" else "")


def _ask_like(column: str, parts: tuple[str | Wildcard, ...], *, cased: bool) -> str:
    text = linq.never_null(column)
    many = Wildcard.MANY
    if not parts:
        return f'(isnotnull({column}) and {text} = "")'
    match parts:
        case (str() as word,):
            return f"{text} = {linq.quoted(word)}" if cased else f"eqic({text}, {linq.quoted(word)})"
        case (one,) if one is many:
            return f"isnotnull({column})"
        case (first, str() as word, last) if first is many and last is many:
            return f"{'has' if cased else 'weakhas'}({text}, {linq.quoted(word)})"
        case (str() as word, last) if last is many:
            return _at_end("startswith", text, word, cased=cased)
        case (first, str() as word) if first is many:
            return _at_end("endswith", text, word, cased=cased)
    return linq.matches(text, f"(?{'' if cased else 'i'}s)^{linq.like_pattern(parts)}$")


def _at_end(function: str, text: str, word: str, *, cased: bool) -> str:
    if cased:
        return f"{function}({text}, {linq.quoted(word)})"
    return f"{function}(lower({text}), {linq.quoted(word.lower())})"


def _ask_number(column: str, order: Order, number: float) -> str:
    """Compared as numbers; what is none fulfils no comparison."""
    failing = {
        Order.LESS: _FAR,
        Order.AT_MOST: _FAR,
        Order.MORE: -_FAR,
        Order.AT_LEAST: -_FAR,
        Order.EQUAL: number - 1,
        Order.OTHER: number,
    }[order]
    return f"nvl(float({column}), {float(failing)!r}) {_SIGNS[order]} {float(number)!r}"


def _ask_same(column: str, other: str, place: str) -> str:
    one, two = (f"lower({linq.never_null(name)})" for name in (column, other))
    function = {"anywhere": "has", "start": "startswith", "end": "endswith"}.get(place)
    found = f"{function}({one}, {two})" if function else f"{one} = {two}"
    return f"(isnotnull({column}) and isnotnull({other}) and {found})"


def _ask_property(field: str, column: str, comparison: Comparison, columns: Columns) -> str:
    """A changed property: its text may be a JSON list, and each plain element of it counts too.

    A name with a dot is that of a property, or the way into the JSON that a shorter name's value is.
    """
    found = _ask_elements(column, comparison)
    name, side = field.removeprefix("ModifiedProperties.").rsplit(".", 1)
    head, _, key = name.rpartition(".")
    if not head or side not in ("new", "old") or isinstance(comparison, IsNull | SameAs):
        return found
    if isinstance(comparison, Exists) and not comparison.wanted:
        raise Unsayable(f"{field} is asked to be absent, and may be a property or a part of one")
    outer = columns.named_side("ModifiedProperties", head, side)
    return linq.any_of(
        [found, f"(not ({_present(column)}) and {_ask_inside(Place(outer, key), comparison)})"]
    )


def _present(column: str) -> str:
    return f"isnotnull({column})"


def _ask_elements(column: str, comparison: Comparison) -> str:
    text = linq.never_null(column)
    match comparison:
        case Like(parts, cased) if parts and not (parts[0] is Wildcard.MANY and parts[-1] is Wildcard.MANY):
            return linq.matches(text, _element(linq.like_pattern(parts), cased=cased))
        case OneOf(values) if "" not in values:
            choice = "|".join(linq.escaped(one) for one in sorted(values))
            return linq.matches(text, _element(f"(?:{choice})", cased=False))
        case ContainsOneOf(values, place):
            choice = "|".join(linq.escaped(one) for one in sorted(values))
            start = r"""(?:^|["\[,]\s*)""" if place == "start" else ""
            end = r"""(?:$|\s*["\],])""" if place == "end" else ""
            return linq.matches(text, f"(?i){start}(?:{choice}){end}")
        case Matches(pattern) if "^" in pattern or "$" in pattern:
            raise Unsayable("a pattern with ends is asked of the elements of a list")
    return _ask_text(column, comparison)


def _element(inner: str, *, cased: bool) -> str:
    """A pattern of the whole text, of a text in quotation marks, or of an element of a JSON list."""
    return rf'(?{"" if cased else "i"}s)^(?:\[(?:.*,)?\s*)?"?{inner}"?\s*(?:(?:,.*)?\])?$'


def _ask_inside(place: Place, comparison: Comparison) -> str:
    """Whether some value under the key, anywhere in the JSON text, passes."""
    text = linq.never_null(place.column)
    key = rf'(?i:"{linq.json_pattern((place.key,))}"\s*:\s*)'
    match comparison:
        case Like(parts, cased):
            return linq.matches(text, key + _json_value(linq.json_pattern(parts), parts, cased=cased))
        case OneOf(values):
            choice = "|".join(linq.json_pattern((one,)) for one in sorted(values))
            return linq.matches(text, key + _json_value(f"(?:{choice})", ("",), cased=False))
        case ContainsOneOf(values, place_in_text):
            choice = "|".join(linq.json_pattern((one,)) for one in sorted(values))
            start = "" if place_in_text == "start" else r'[^"\\]*(?:\\.[^"\\]*)*?'
            end = '"' if place_in_text == "end" else ""
            return linq.matches(text, f'{key}"{start}(?i:{choice}){end}')
        case Exists(True):
            return linq.matches(text, rf"{key}(?:[^n\s]|n[^u])")
        case Matches(pattern):
            return linq.matches(text, f'{key}"{_embedded(pattern)}')
    raise Unsayable(f"a {type(comparison).__name__} is asked of the values of a list")


def _json_value(inner: str, parts: linq.Parts, *, cased: bool) -> str:
    is_plain = not any(isinstance(one, Wildcard) for one in parts)
    flags = "" if cased else "i"
    return rf'(?{flags}:"?{inner}"?[\s,}}\]])' if is_plain else f'(?{flags}:"{inner}")'


def _embedded(pattern: str) -> str:
    """A pattern that is found inside a JSON text and cannot reach beyond it. Raises: Unsayable."""
    body = pattern.removeprefix("(?i)")
    reaches = any(sign in body for sign in ("^", "$", "[^", "\\S", "\\W", "\\D", '"')) or _has_dot(body)
    if reaches:
        raise Unsayable("a pattern with ends, dots or exclusions is asked of the values of a list")
    flags = "i" if body != pattern else ""
    return rf'[^"\\]*(?:\\.[^"\\]*)*?(?{flags}:{body})'


def _has_dot(body: str) -> bool:
    return any(one == "." and body[place - 1 : place] != "\\" for place, one in enumerate(body))


def _ask_anywhere(comparison: Comparison, columns: Columns) -> str:
    """Whether some text of the whole record is one of these, in JSON inside of texts too."""
    record = columns.table.record
    match comparison:
        case OneOf(values):
            words = sorted(values)
        case Like((str() as word,), _):
            words = [word]
        case _:
            raise Unsayable("a pattern is asked of the whole record")
    choice = "|".join(linq.json_pattern((one,)) for one in words)
    return linq.matches(record, rf'(?i)\\?"(?:{choice})\\?"')
