"""What a filter says in the words that pages show: workload:"Entra ID", app:Teams, a tenant by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.query_context import View
from m365watch.board.query.tenant_names import Names, name_tenants
from m365watch.board.widgets.labels import named_so
from m365watch.lake.search.filter_sql import leaves_of
from m365watch.lake.search.terms import Every, Match, Not, Some, Term, Wanted

_NAMED = frozenset({"workload", "app", "type", "usertype"})


async def in_records_words(view: View, sources: Sources, term: Term | None) -> Term | None:
    """The same filter, in which the values that pages show stand beside those that records have."""
    if term is None:
        return None
    names: Names = {}
    if any(isinstance(one, Match) and one.field.name == "tenant" for one in leaves_of(term)):
        names = await name_tenants(view, sources)
    return _translated(term, names)


def _translated(term: Term, names: Names) -> Term:
    match term:
        case Every(terms):
            return Every(tuple(_translated(one, names) for one in terms))
        case Some(terms):
            return Some(tuple(_translated(one, names) for one in terms))
        case Not(inner):
            return Not(_translated(inner, names))
        case Match(field, values, within) if field.name in _NAMED and not within:
            return replace(term, values=_with(values, lambda text: named_so(field.name, text, whole=True)))
        case Match(field, values, within) if field.name == "tenant" and not within:
            return replace(term, values=_with(values, lambda text: _tenants_called(names, text)))
    return term


def _tenants_called(names: Mapping[str, str], text: str) -> list[str]:
    return [one for one, called in names.items() if called.lower() == text.lower()]


def _with(values: Iterable[Wanted], named: Callable[[str], list[str]]) -> tuple[Wanted, ...]:
    """Each value, or what records have in its place where pages call that so."""
    found: list[Wanted] = []
    for value in values:
        instead = [Wanted(one, value.at, is_quoted=not one.isdigit()) for one in named(value.text)]
        found += instead or [value]
    return tuple(found)
