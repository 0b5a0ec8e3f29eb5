"""Why a panel is empty, and what to do about it."""

from __future__ import annotations

from dataclasses import replace

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import NOT, NOT_NARROWED, is_no_address
from m365watch.board.query.display_names import name_applications
from m365watch.board.query.query_context import View
from m365watch.board.query.sql.activity_queries import TOTAL
from m365watch.board.widgets.labels import dimension_words, value_words
from m365watch.board.widgets.previous_lake import words_of_earlier
from m365watch.board.widgets.widget_types import Empty

NOTHING_YET = "No record has arrived yet."
NEW_LAKE = "The lake is new, and no record has arrived in it yet."
_FROM_THEN_ON = "It gets what is fetched since it was added."
EMPTIED = "The lake holds no record."
_TAKEN_OUT = "Retention or an erasure took out what it had; what is fetched from now on comes to it."
_WAITS = "m365watch status says what the collector is waiting for."
_NOBODY_COLLECTS = "No collector has run with this configuration yet: m365watch run starts one."
_ANYTHING = "A * stands for anything"
_HINTS = {
    "user": f"{_ANYTHING}: ann* finds whoever begins so. Or choose a longer time.",
    "ip": f"{_ANYTHING}, and 203.0.113.0/24 is a network. Or choose a longer time.",
    "operation": f"{_ANYTHING}: *inboxrule* finds all that have it in their names. Or choose a longer time.",
    "app": f"It is the application's id, and {_ANYTHING.lower()}. Or choose a longer time.",
}


async def no_records(view: View, sources: Sources, *, of: str = "records") -> Empty:
    """Why there is nothing to count in this view: the first reason that applies."""
    if sources.facts is None:
        return Empty(
            "No output of the configuration is a lake, and the pages read the lake.",
            "Add an output of type lake, and run m365watch run.",
        )
    if view.tenants == ():
        return Empty("Your role sees no tenant that this view asks for.", "Take the tenant out of the view.")
    lost = await sources.lost_lake()
    if lost is not None:
        what = lost.what.replace("the lake", "The lake", 1)
        return Empty(f"{what}.", f"{lost.fix[:1].upper()}{lost.fix[1:]}.")
    if not (await sources.facts.snapshot()).days:
        if await sources.has_had_records():
            return Empty(EMPTIED, _TAKEN_OUT)
        if await sources.has_delivered():
            return Empty(NEW_LAKE, await words_of_earlier(view, sources) or _FROM_THEN_ON)
        return Empty(NOTHING_YET, _WAITS if sources.has_ledger else _NOBODY_COLLECTS)
    if view.narrowing.values:
        return await _too_narrow(view, sources, of)
    then = await words_of_earlier(view, sources) or "Choose a longer time, or look at Health for gaps."
    return Empty(f"There are no {of} in this time.", then)


async def no_records_beside(view: View, sources: Sources, *, of: str = "records") -> Empty:
    """The same in a panel beside another one that says what to do where nothing has arrived at all."""
    empty = await no_records(view, sources, of=of)
    return Empty(empty.why) if empty.why in {NOTHING_YET, NEW_LAKE, EMPTIED} else empty


async def good_news(view: View, sources: Sources, said: str, then: str = "") -> Empty:
    """That nothing bad is among the records of the view; without any record nobody can say so."""
    if (await sources.ask(view, TOTAL) or [(0,)])[0][0]:
        return Empty(said, then)
    return await no_records(view, sources)


async def _too_narrow(view: View, sources: Sources, of: str) -> Empty:
    """Which filter leaves nothing by itself, if one does; and how else it may be written."""
    for name, value in view.narrowing.pairs():
        if name.startswith(NOT) or name == "tenant":
            continue
        alone = replace(view, narrowing=NOT_NARROWED.with_value(name, value))
        if not (await sources.ask(alone, TOTAL) or [(0,)])[0][0]:
            called = await name_applications(view, sources, [value] if name == "app" else [])
            shown = called.get(value.lower()) or value_words(name, value)
            said = f"No record of this time has the {dimension_words(name).lower()} {shown}."
            if name == "ip" and is_no_address(value):
                said = f"{value} is neither an address nor a network."
            return Empty(said, _HINTS.get(name, "Take it out, or choose a longer time."))
    return Empty(
        f"No {of} of this time fulfil all filters together.", "Take one out, or choose a longer time."
    )
