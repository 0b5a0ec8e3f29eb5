"""What somebody means who types into the filter bar: what is displayed, in any case, or a part of it."""

from __future__ import annotations

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
from m365watch.board.query.query_context import View
from m365watch.board.query.tenant_names import Names, name_tenants
from m365watch.board.widgets.labels import named_so

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
