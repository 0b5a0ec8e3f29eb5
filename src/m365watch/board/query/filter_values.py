"""What a filter says in the words that pages show: workload:"Entra ID", app:Teams, a tenant by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from m365watch.board.query.completion import Choice, list_values
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import (
    ANY,
    DIMENSIONS,
    NUMBERS,
    PATTERNED,
    Narrowing,
    is_pattern,
    plain_name,
)
from m365watch.board.query.display_names import Names, name_tenants
from m365watch.board.query.query_context import View
from m365watch.board.widgets.labels import named_so
from m365watch.lake.search.filter_parser import Every, Match, Not, Some, Term, Wanted
from m365watch.lake.search.filter_sql import leaves_of

_OUTCOMES = {"success": "ok", "succeeded": "ok", "failure": "failed", "fail": "failed"}


async def meant(view: View, sources: Sources, name: str, typed: str) -> str:
    """The value that records have; as it was typed where none of them has anything like it."""
    name = plain_name(name)
    if name == "result":
        return _OUTCOMES.get(typed.lower(), typed.lower())
    if name == "tenant":
        return _tenant(await name_tenants(view, sources), typed.lower())
    if name not in DIMENSIONS or is_pattern(name, typed) or (name in NUMBERS and typed.isdigit()):
        return typed
    kept = {one: values for one, values in view.narrowing.values.items() if plain_name(one) != name}
    beside = replace(view, narrowing=Narrowing(kept))
    return _chosen(name, typed, await list_values(beside, sources, name, typed))


def _tenant(names: Names, typed: str) -> str:
    """The tenant of that name or id, or the only one that has it in them."""
    whole = [one for one, called in names.items() if typed in (one, called.lower())]
    holding = [one for one, called in names.items() if typed in one or typed in called.lower()]
    found = whole or holding
    return found[0] if len(found) == 1 else typed


def _chosen(name: str, typed: str, choices: list[Choice]) -> str:
    found = [one.text for one in choices]
    same = [one for one in found if one.lower() == typed.lower()]
    called = named_so(name, typed, whole=True)
    if best := same or called or (found if len(found) == 1 else []):
        return best[0]
    holding = [one.lower() for one in found if typed.lower() in one.lower()]
    if not holding or name not in PATTERNED:
        return found[0] if found else typed
    begins = any(one.startswith(typed.lower()) for one in holding)
    return f"{typed}{ANY}" if begins else f"{ANY}{typed}{ANY}"


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
