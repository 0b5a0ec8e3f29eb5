"""What the tenant's own applications are called: its records of their consent and of their changes say it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.query_context import View
from m365watch.board.query.sql.application_queries import NAMED
from m365watch.board.query.time_range import read_range
from m365watch.board.widgets.labels import application_words, short_id
from m365watch.board.widgets.record_text import listed, text_of
from m365watch.common.errors import CollectorError
from m365watch.records.headers import object_of

ASKED_MAX = 50
_OBJECT = "application_"
"""What stands before the id of an application's own object: records of new secrets name nothing else."""
_ID = re.compile(rf"({_OBJECT})?[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}")
_NAME = 1
"""The kind of a target that is a name."""


async def name_applications(view: View, sources: Sources, ids: Iterable[str]) -> Mapping[str, str]:
    """The name of each application that has one, by its id in lower case, for whoever may see the view.

    Whoever made an application has named it: the beginning of its id stands behind, and what Microsoft's
    well-known ids are called stays.
    """
    asked = {one.lower() for one in ids}
    known = {one: words for one in asked if (words := application_words(one)) != one}
    others = [one for one in asked - known.keys() if _ID.fullmatch(one)]
    if not others or not view.access.sees_contents:
        return known
    memory, scope, now_s = sources.app_names, view.tenants, view.now.timestamp()
    if left := memory.unknown(scope, others, now_s=now_s)[:ASKED_MAX]:
        with suppress(CollectorError):
            memory.learn(scope, left, await _look_up(view, sources, left), now_s=now_s)
    return known | memory.names(scope, others)


async def name_entities(
    view: View, sources: Sources, entities: Iterable[tuple[str, str]]
) -> Mapping[str, str]:
    """The same of the applications that alerts or records name among others."""
    return await name_applications(view, sources, (value for kind, value in entities if kind == "app"))


async def _look_up(view: View, sources: Sources, ids: list[str]) -> Mapping[str, str]:
    everything = replace(view.of_everything, range=read_range({"range": "90d"}, now=view.now))
    found: dict[str, str] = {}
    for app_id, raw in await sources.ask(everything, NAMED, ids=ids):
        if name := _name_in(raw):
            found.setdefault(app_id, f"{name} ({short_id(app_id.removeprefix(_OBJECT))})")
    return found


def _name_in(raw: str) -> str:
    """What the record calls the application."""
    targets = listed(object_of(raw), "Target")
    return next((text_of(one.get("ID")) for one in targets if one.get("Type") == _NAME), "")
