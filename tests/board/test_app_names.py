"""Applications of the tenant's own are called by the names that its records give them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from html import unescape
from typing import cast
from urllib.parse import urlencode

from asking import EVERYTHING, ask, board_of, view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.pages import exchange, search
from m365watch.board.query.caches import LASTS_S, NameMemory
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import name_applications
from m365watch.board.query.query_planner import Query
from m365watch.board.widgets.widget_types import Grid, Hits, Several
from m365watch.lake.rollups.facts import CHANGES

EXCHANGE = "00000002-0000-0ff1-ce00-000000000000"
ADDED = Query(
    "SELECT lower(object), raw FROM facts WHERE operation = 'Add service principal.' ORDER BY at_s LIMIT 1",
    of=CHANGES,
    exact=True,
)


def test_an_application_is_called_as_its_consent_calls_it(sources: Sources) -> None:
    """With the beginning of its id, as anybody may call one "Exchange Online"; to who sees contents alone."""
    view = view_of("range=30d")
    [(app_id, raw)] = asyncio.run(sources.ask(view, ADDED))
    asked = [app_id.upper(), EXCHANGE, "not an id", "00000000-1111-4111-8111-000000000000"]
    bare = view_of("range=30d", replace(EVERYTHING, sees_contents=False))
    stranger = Access("bob", Role.ADMIN, tenants=frozenset({"00000000-0000-4000-8000-000000000000"}))

    told = asyncio.run(name_applications(view, sources, asked))

    assert told.keys() == {app_id, EXCHANGE}
    assert told[EXCHANGE] == "Exchange Online"
    name, _, mark = told[app_id].rpartition(" ")
    assert name in raw
    assert mark == f"({app_id[:8]})"
    for view in (bare, view_of("range=30d", stranger)):
        assert asyncio.run(name_applications(view, sources, asked)) == {EXCHANGE: "Exchange Online"}


def test_what_a_secret_was_added_to_is_called_by_its_name() -> None:
    """Such records name the application's object, and no id that anything else does."""
    target = "application_0d6717ac-b114-482b-8269-43a030968434"
    raw = json.dumps({"Target": [{"ID": target, "Type": 2}, {"ID": "Payroll", "Type": 1}]})

    class Told:
        """Sources whose records of changes have that one."""

        app_names = NameMemory()

        async def ask(self, view: object, query: Query, *, ids: list[str]) -> list[tuple[str, str]]:
            return [(one, raw) for one in ids]

    named = name_applications(
        view_of("range=30d"), cast("Sources", Told()), [target.capitalize(), "application_1"]
    )

    assert asyncio.run(named) == {target: "Payroll (0d6717ac)"}


def test_a_page_shows_the_name_and_narrows_by_the_id(sources: Sources) -> None:
    """Of the application that an intruder was let in by."""
    shape = asyncio.run(exchange.read_with(view_of("range=30d"), sources))

    assert isinstance(shape, Several)
    assert isinstance(shape.parts[0], Grid)
    told = {row[0].text: row[0].narrows for row in shape.parts[0].rows}
    own = {name: narrows for name, narrows in told.items() if name.endswith(")")}
    assert own
    for name, narrows in own.items():
        assert narrows is not None
        assert name.endswith(f"({narrows[1][:8]})")


def test_a_search_calls_applications_so_too(sources: Sources) -> None:
    """What a record was about has the name, Microsoft's as well as the tenant's own; its link has the id."""
    rows = []
    for text in ("object:00000003-0000-0000-c000-000000000000", 'op:"Consent to application."'):
        shape = asyncio.run(search.hits(view_of(urlencode({"range": "30d", "q": text})), sources))
        assert isinstance(shape, Hits)
        rows.append([row.cells[-1] for row in shape.rows])

    assert {cell.text for cell in rows[0]} == {"Microsoft Graph"}
    assert any(cell.text.endswith(")") for cell in rows[1])
    assert all("00000003-0000-0000-c000-000000000000" in cell.url for cell in rows[0])


def test_alerts_and_filters_have_the_name(sources: Sources) -> None:
    """On the queue, whom alerts are about, the alert itself, and the chip of a filter; links have the id."""
    view = view_of("range=90d")
    found = asyncio.run(sources.list_alerts(view)) or []
    named = [(one.alert, value) for one in found for kind, value in one.alert.entities if kind == "app"]
    called = asyncio.run(name_applications(view, sources, [value for _, value in named]))
    alert, app_id = next((alert, one) for alert, one in named if called.get(one, "").endswith(")"))
    name = called[app_id]
    board = board_of(sources)
    texts = [
        asyncio.run(ask(board, url)).text
        for url in (
            "/panel/alerts/queue?range=90d&severity=informational",
            f"/panel/alerts/about?range=90d&app={app_id}",
            f"/panel/alert/case?range=90d&alert={alert.id}",
            f"/exchange?range=90d&app={app_id}",
        )
    ]

    assert [name in unescape(one) for one in texts] == [True] * len(texts)
    assert all(f"app={app_id}" in one for one in texts[:-1])
    assert f">{app_id}<" not in "".join(texts[:-1])


def test_what_was_looked_up_is_not_asked_again_for_a_while() -> None:
    """Nor that there is no name; what one tenant calls it, another does not learn."""
    memory = NameMemory()
    memory.learn(("a",), ["1", "2"], {"1": "One"}, now_s=0)

    assert memory.unknown(("a",), ["3", "2", "1"], now_s=LASTS_S - 1) == ["3"]
    assert memory.unknown(("a",), ["1"], now_s=LASTS_S) == ["1"]
    assert memory.unknown(None, ["1"], now_s=1) == ["1"]
    assert memory.names(("a",), ["1", "2"]) == {"1": "One"}
    assert memory.names(None, ["1"]) == {}
