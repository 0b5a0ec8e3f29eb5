"""What LINQ can only say in part: what a value has that an earlier one lacks, by how much of it there is.

LINQ takes no list from another. But it counts, and it compares texts: where the later value has more of what
is looked for, or as many and not the same, something came new. What goes unseen so is told with the alert.
"""

from __future__ import annotations

from m365watch.detection.export.linq import linq_syntax as linq
from m365watch.detection.export.linq.devo_schema import Columns
from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.rules.condition import Comparison, ContainsOneOf, Exists, Like, OneOf, Wildcard

NETWORK = (
    r"((?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:/[0-9]{1,2})?|[0-9A-Fa-f:]{0,40}::[0-9A-Fa-f:]{0,40}(?:/[0-9]{1,3})?)"
)
_OUTSIDE = r"(?:^|>)[^<]*(?:<|$)"
_SIGNS = '[",:]'
"""As many as a JSON text has values, or more."""
_EMPTY = ("", "[]", "{}", "null")
_SCOPES = (
    "ModifiedProperties.DelegatedPermissionGrant.Scope.new",
    "ModifiedProperties.OAuth2PermissionGrant.Scope.new",
    "ModifiedProperties.AppRole.Value.new",
)
_CONSENT = "ModifiedProperties.ConsentAction.Permissions.new"


def ask_gained(kind: str, name: str, comparison: Comparison, columns: Columns) -> str:
    """Whether a property has gained (or lost) what contains a word, or anything. Raises: Unsayable."""
    inner, outer = ("new", "old") if kind == "gained" else ("old", "new")
    if isinstance(comparison, Exists) and comparison.wanted:
        return _gained_anything(name, inner, outer, columns)
    words = _words_of(comparison)
    if not words:
        raise Unsayable(f"m365.{kind}.{name}: LINQ takes no list from another, to see what came new")
    now, before = (columns.text(f"ModifiedProperties.{name}.{side}") for side in (inner, outer))
    pattern = rf"(?i)((?:{'|'.join(map(linq.escaped, words))})[^,;\]\"}}]*)"
    columns.leave_out(
        f"a change of {name} that takes away more than it adds: what is there is counted before and after"
    )
    return _more_of(now, before, pattern, name, columns)


def _gained_anything(name: str, inner: str, outer: str, columns: Columns) -> str:
    head, _, key = name.rpartition(".")
    now, before = (columns.text(f"ModifiedProperties.{head or key}.{side}") for side in (inner, outer))
    if head:
        columns.leave_out(f"a change of {head} that takes away more than it adds")
        pattern = rf'(?i)("{linq.json_pattern((key,))}"\s*:\s*[^,;}}\]]*)'
        return _more_of(now, before, pattern, name, columns)
    columns.leave_out(f"a change that leaves {name} with fewer values, whatever it adds")
    later, earlier = linq.never_null(now), linq.never_null(before)
    counts = [
        f'(length({one}) - length(subsall({one}, {linq.pattern(_SIGNS)}, template(""))))'
        for one in (later, earlier)
    ]
    empty = linq.one_of(f"trim({later})", _EMPTY)
    return f"(not ({empty}) and {later} != {earlier} and {counts[0]} >= {counts[1]})"


def ask_gained_networks(name: str, comparison: Comparison, columns: Columns) -> str:
    """Whether a property has gained a network. Raises: Unsayable."""
    if not (isinstance(comparison, Exists) and comparison.wanted):
        raise Unsayable(
            f"m365.gained_networks.{name}: which networks came new LINQ cannot tell, only that some did"
        )
    now, before = (columns.text(f"ModifiedProperties.{name}.{side}") for side in ("new", "old"))
    columns.leave_out("a network that takes the place of another: they are counted before and after")
    return _more_of(now, before, NETWORK, f"{name}_networks", columns, replaced=False)


def ask_scopes(comparison: Comparison, columns: Columns) -> str:
    """Whether scopes that begin so, or are these, are granted now. Raises: Unsayable."""
    start = _starts_of(comparison)
    if not start:
        raise Unsayable(
            "m365.scopes has several values in one record, and is asked for more than how they begin"
        )
    text = columns.text(_CONSENT)
    before = linq.never_null(linq.peek(text, "(?s)^(.*?)=>"))
    after = linq.never_null(linq.first_of(linq.peek(text, "(?s)=>(.*)$"), text))
    others = ' + " " + '.join(linq.never_null(columns.text(name)) for name in _SCOPES)
    now = columns.make("granted", f'{after} + " " + {others}')
    earlier = columns.make("granted_before", before)
    columns.leave_out("a consent that takes away more such permissions than it gives")
    pattern = rf'(?i)(?:^|[\s,;:\["])((?:{start})[^\s,;\]"]*)'
    more = _more_of(now, earlier, pattern, "scopes", columns)
    # Where both sides are the same, all are what was consented to.
    every = [
        columns.make(f"{name}_words", _listing(name, r"(?i)Scope:\s*([^\],;]*)")) for name in (now, earlier)
    ]
    same = f"({every[0]} = {every[1]} and {linq.matches(now, pattern)})"
    return linq.any_of([more, same])


def _more_of(
    now: str, before: str, pattern: str, name: str, columns: Columns, *, replaced: bool = True
) -> str:
    """Whether the pattern is found more often now, or as often and not the same."""
    found, earlier = (
        columns.make(f"{name}_{side}_found", _listing(text, pattern))
        for side, text in (("now", now), ("before", before))
    )
    counts = [f'(length({one}) - length(replaceall({one}, ";", "")))' for one in (found, earlier)]
    grown = f"{counts[0]} > {counts[1]}"
    other = f"({counts[0]} = {counts[1]} and {found} != {earlier})"
    return f'({found} != ";" and {linq.any_of([grown, other]) if replaced else grown})'


def _listing(text: str, pattern: str) -> str:
    """All that the pattern's group finds, each between semicolons; one semicolon where it finds nothing."""
    bare = f'subsall(lower({linq.never_null(text)}), {linq.pattern("[<>]")}, template(""))'
    marked = f'subsall({bare}, {linq.pattern(pattern)}, template("<\\\\1>"))'
    return f'subsall({marked}, {linq.pattern(_OUTSIDE)}, template(";"))'


def _words_of(comparison: Comparison) -> tuple[str, ...]:
    match comparison:
        case Like((Wildcard.MANY, str() as word, Wildcard.MANY), _):
            return (word.lower(),)
        case ContainsOneOf(values, "anywhere"):
            return tuple(sorted(values))
    return ()


def _starts_of(comparison: Comparison) -> str:
    match comparison:
        case Like((str() as word, Wildcard.MANY), _):
            return linq.escaped(word.lower())
        case ContainsOneOf(values, "start"):
            return "|".join(linq.escaped(one) for one in sorted(values))
        case OneOf(values):
            return rf"(?:{'|'.join(linq.escaped(one) for one in sorted(values))})\b"
    return ""
