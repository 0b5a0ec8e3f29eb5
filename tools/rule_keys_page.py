"""The reference page of rules: the key `m365watch` of a rule, each kind of it, and the `m365.` fields."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from itertools import pairwise
from typing import Any

from m365watch.detection.fields import property_changes as changes
from m365watch.detection.fields.field_catalog import CATALOGUE
from m365watch.detection.rules import extension
from m365watch.detection.rules.extension import Extension, Kind
from tools.errors_page import table

HEAD = """\
# Rules

Made from the code by `./dev docs`. A rule is a file of [Sigma](https://sigmahq.io/docs/basics/rules.html),
its [correlations](https://sigmahq.io/docs/meta/correlations.html) included. What Sigma has no word for stands
under one key, `m365watch`. [A detection in ten minutes](../tutorials/adding-a-rule.md) leads through a whole
one, and `m365watch rules validate` names every mistake.

Spans are written as 90s, 5m, 24h, 7d or 2w, 90 days at most. A rule is of one kind: that whose key it has, or
`each`.
"""
_KEYS = """
## The key m365watch

"""
_DERIVED = """
## Fields that are worked out

Each can stand where a field of the record can. Without the lists and tables that it asks for
([`enrich`](../detection.md#what-you-can-tell-the-rules)), a field is empty.

"""
_BY_KIND = {
    Kind.SEVERAL: ("several", extension.Several),
    Kind.LOW: ("low", extension.Low),
    Kind.ROLLING: ("rolling", extension.Rolling),
    Kind.GRADIENT: ("gradient", extension.Change),
    Kind.DEVIATION: ("deviation", extension.Deviation),
    Kind.FIRST_SEEN: ("first_seen", extension.FirstSeen),
    Kind.TRAVEL: ("travel", extension.Travel),
}
EXAMPLES = {
    Kind.SEVERAL: "several: {threshold: 10, period: 5m, keys: [UserId]}",
    Kind.LOW: "low: {period: 6h, learn: 7d}\ngroup_by: [Workload]",
    Kind.ROLLING: "rolling: {period: 1h, back_period: 24h, threshold: 100}\ngroup_by: [UserId]",
    Kind.GRADIENT: "gradient: {period: 1h, threshold: 3, at_least: 50}\ngroup_by: [UserId]",
    Kind.DEVIATION: "deviation: {period: 24h, periods: 14, threshold: 4, at_least: 300}\ngroup_by: [UserId]",
    Kind.FIRST_SEEN: "first_seen: {key: [UserId, m365.country], period: 14d, learn: 7d}",
    Kind.TRAVEL: "travel: {speed_km_h: 900, distance_km: 500, within: 24h}\ngroup_by: [UserId]",
}
"""By kind, what a rule has under its key for it."""
_SPANS = {"period", "back_period", "learn", "within", "quiet", "once"}
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60))


def render() -> str:
    """The page: all keys, the kinds with what each looks at, the fields that are worked out."""
    named = {"raises": "raise"}
    parts = {name for name, _ in _BY_KIND.values()}
    keys = _rows(Extension, leave_out=parts, named=named)
    said = f"{HEAD}{_KEYS}{table(['key', 'default', 'what it says'], keys)}"
    raising = table(["key", "default", "what it says"], _rows(extension.Raise))
    said += f"\nOf `raise`, which is one of these or a list:\n\n{raising}"
    said += "".join(_kind(kind) for kind in Kind)
    return f"{said}{_DERIVED}{table(['field', 'what it is'], [list(row) for row in _derived()])}"


def _kind(kind: Kind) -> str:
    told = f"\n## Kind {kind}\n\n{_words_of(Kind)[kind.name]}\n"
    if kind not in _BY_KIND:
        return told
    name, part = _BY_KIND[kind]
    example = textwrap.indent(EXAMPLES[kind], "  ")
    rows = _rows(part, within=f"{name}.")
    return f"{told}\n```yaml\nm365watch:\n{example}\n```\n\n{table(['key', 'default', 'what it says'], rows)}"


def _rows(
    kind: type[Any],
    *,
    within: str = "",
    leave_out: set[str] | None = None,
    named: dict[str, str] | None = None,
) -> list[list[str]]:
    words = _words_of(kind)
    return [
        [f"`{within}{(named or {}).get(one.name, one.name)}`", _default(one), words[one.name]]
        for one in fields(kind)
        if one.name not in (leave_out or ())
    ]


def _default(field: Any) -> str:
    default = field.default if field.default is not MISSING else None
    if field.default is MISSING and field.default_factory is MISSING:
        return "**required**"
    if field.default is MISSING:
        default = field.default_factory()
    if default is None or default in ("", (), {}):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, dict):
        return f"`{{{', '.join(f'{key}: {value}' for key, value in default.items())}}}`"
    return f"`{_span(default) if field.name in _SPANS else default}`"


def _span(seconds: int) -> str:
    if seconds == _UNITS[0][1]:
        return "24h"
    unit, size = next(one for one in _UNITS if seconds % one[1] == 0)
    return f"{seconds // size}{unit}"


def _words_of(kind: type[Any]) -> dict[str, str]:
    """The words below each name of a class, each in one line."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    return dict(_words_in(body))


def _words_in(body: ast.AST) -> Iterator[tuple[str, str]]:
    for key, below in pairwise(ast.iter_child_nodes(body)):
        match key, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, " ".join(text.split())


def _derived() -> Sequence[tuple[str, str]]:
    of_property = {"gained": changes.gained, "gained_networks": changes.gained_networks, "lost": changes.lost}
    rows = [(f"`m365.{name}`", _first_words(one.read)) for name, one in CATALOGUE.items()]
    rows += [(f"`m365.{name}.<property>`", _first_words(read)) for name, read in of_property.items()]
    return rows


def _first_words(read: Any) -> str:
    """What it is; where that comes from stays in the code."""
    return " ".join(inspect.cleandoc(read.__doc__ or "").split("\n\nSource:")[0].split()).replace("|", "\\|")
