"""Somebody without sight of contents: no subject, no name of a file, no text of a record."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode, urlsplit

import duckdb
import pytest
from deltalake import DeltaTable
from promises import guarantee
from starlette.requests import HTTPConnection

from asking import EVERYTHING, ask, board_of, view_of
from every_address import every_answer
from m365watch.board.access.redaction import _OBJECT, _RAW, EMPTIED, SHOWN_ENTITIES, alert_for
from m365watch.board.access.roles import Access, Role
from m365watch.board.api.api_routes import operations
from m365watch.board.app.security_middleware import TOKEN_HEADER
from m365watch.board.pages import search
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.entity_counts import bound_of, names_of
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql import entity_queries as trails
from m365watch.board.widgets.widget_types import Hits
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.alerts.triage import set_states
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.rules.rule import Rule

BLIND = Access("bob", Role.ADMIN, tenants=None, sees_contents=False)
CONTENTS = {"subject", "sourcefilename", "filename", "itemname", "destinationfilename", "messagename"}
"""Fields whose values are contents, whatever they are."""


class OnlyGate:
    """Everybody is the same."""

    def __init__(self, access: Access) -> None:
        self.access = access

    def access_of(self, connection: HTTPConnection) -> Access:
        return self.access


def contents_of(sources: Sources) -> set[str]:
    """Subjects and names of files that records of the lake have, long enough to be nothing else."""
    lake = sources.settings.lake_directory
    assert lake is not None
    rows = duckdb.execute(
        "SELECT raw FROM read_parquet($files)", {"files": DeltaTable(lake / "audit").file_uris()}
    ).fetchall()
    found = {value for (raw,) in rows for value in values_in(json.loads(raw))}
    return {value for value in found if len(value) >= 10 and not re.fullmatch(r"[\w.@-]+@[\w.-]+", value)}


def values_in(value: Any, name: str = "") -> Iterator[str]:
    match value:
        case dict():
            for key, child in value.items():
                yield from values_in(child, key.lower())
        case list():
            for child in value:
                yield from values_in(child, name)
        case str() if name in CONTENTS:
            yield value


def shown(sources: Sources, access: Access, contents: set[str], *, only: str = "") -> dict[str, set[str]]:
    """Which contents each address shows."""
    board = board_of(sources, gate=OnlyGate(access))
    found = {}
    for url in every_answer(sources):
        if url.startswith(only):
            text = asyncio.run(ask(board, url)).text
            if here := {one for one in contents if one in text}:
                found[url] = here
    return found


@guarantee(43)
@pytest.mark.slow
def test_no_subject_and_no_name_of_a_file_reaches_who_must_not_see_them(sources: Sources) -> None:
    """Pages, panels, documents and exports, whatever they will be; others see them there."""
    contents = contents_of(sources)
    seeing = Access("ann", Role.ADMIN, tenants=None)
    assert len(contents) > 50

    assert shown(sources, BLIND, contents) == {}
    assert len(shown(sources, seeing, contents, only="/api/")) >= 5


SENT = {
    "StateWanted": {"state": "acknowledged"},
    "StatesWanted": {"ids": ["ALERT"], "state": "acknowledged"},
    "SqlAsked": {"sql": "SELECT raw FROM sharepoint LIMIT 1000"},
}
"""What is sent where an operation wants a body, by the form that it has; one that is new has to be named."""


def told_by_programs(sources: Sources, access: Access, kept: KeptAlert) -> dict[str, str]:
    """What each operation answers that is no panel's, asked about an alert where one can be named."""
    board = board_of(sources, gate=OnlyGate(access))
    panels = {urlsplit(one).path for one in every_answer(sources)}
    headers = {"content-type": "application/json", TOKEN_HEADER: board._tokens.token_of(access)}
    texts = {}
    for one in operations():
        if one.path in panels:
            continue
        url = one.path.format(id=kept.alert.id, page="overview", panel="recent", code="defect")
        if any(parameter.name == "range" for parameter in one.parameters):
            url += "?range=90d"
        sent = json.dumps(SENT[one.body.__name__]) if one.body else ""
        body = sent.replace("ALERT", kept.alert.id).encode()
        answer = asyncio.run(ask(board, url, method=one.method, headers=headers, body=body))
        refuses = one.shows_contents and not access.sees_contents
        assert answer.status == (403 if refuses else 200), (one.name, answer.text)
        texts[one.name] = answer.text
    return texts


@guarantee(43)
@pytest.mark.slow
def test_no_operation_answers_with_what_it_withholds_elsewhere(sources: Sources) -> None:
    """A change of an alert answers with the alert, and so may whatever else will be done over the API."""
    found = asyncio.run(sources.list_alerts(view_of("range=90d")))
    assert found
    kept = next(one for one in found if one.alert.named("file"))
    hidden = {value for kind, value in kept.alert.entities if kind not in SHOWN_ENTITIES}
    hidden |= {kept.alert.explanation, *contents_of(sources)}
    try:
        seen, blind = (
            {name: {one for one in hidden if json.dumps(one)[1:-1] in text} for name, text in texts.items()}
            for texts in (
                told_by_programs(sources, replace(BLIND, sees_contents=is_shown), kept)
                for is_shown in (True, False)
            )
        )
    finally:
        path = sources.settings.state_directory / FILE_NAME
        set_states(path, [kept.alert.id], AlertState.OPEN, reason="", by="", at_ms=0)

    assert {name for name, values in seen.items() if values} >= {
        *("alerts.list", "alerts.show", "alerts.change", "alerts.change-many", "records")
    }
    assert {name: values for name, values in blind.items() if values} == {}


@guarantee(43)
def test_no_alert_leaves_the_sources_unseen_to() -> None:
    """Whatever they give of alerts is of the type that only the place makes which withholds."""
    given = {
        name: method.__annotations__.get("return", "")
        for name, method in inspect.getmembers(Sources, inspect.isfunction)
        if not name.startswith("_")
    }

    assert {name for name, hint in given.items() if "SeenAlert" in hint} >= {
        *("list_alerts", "find_alert", "change_alerts", "list_related")
    }
    assert [name for name, hint in given.items() if re.search(r"\b(KeptAlert|Alert)\b", hint)] == []


def told_of(alert: Alert, rule: Rule | None) -> Alert:
    """The alert as somebody without sight of contents reads it."""
    rules = {} if rule is None else {rule.id: rule}
    return alert_for(view_of("range=30d", BLIND), KeptAlert(alert, shown=True), rules).alert


@guarantee(43)
def test_what_somebodys_own_rule_repeats_of_a_record_is_withheld(sources: Sources) -> None:
    """In the title and in what to check, which it may fill with any field; of people it says who it was."""
    found = asyncio.run(sources.list_alerts(view_of("range=90d")))
    assert found
    given = next(one.alert for one in found if one.alert.entity("user"))
    known = asyncio.run(sources.list_rules())[given.rule_id]
    more = replace(
        known.extension,
        headline="{SourceFileName} was sent",
        check=("Who has read {SourceFileName|ObjectId}?", "Ask {user}.", "Look around."),
        entity={"user": "UserId", "file": "SourceFileName"},
    )
    user = ", ".join(given.named("user"))
    alert = replace(
        given, title=f"{HIDDEN} was sent", check=(f"Who has read {HIDDEN}?", f"Ask {user}.", "Look around.")
    )

    own = told_of(alert, replace(known, extension=more))
    gone = told_of(alert, None)

    assert own.title == known.title
    assert own.check == (f"Who has read {EMPTIED}?", f"Ask {user}.", "Look around.")
    assert HIDDEN not in f"{gone.title} {gone.check}"


def test_the_texts_of_our_rules_stay_as_they_are(sources: Sources) -> None:
    """Their titles have what Microsoft calls an alert; what to check is told, of people with who it was."""
    lists = [asyncio.run(sources.list_alerts(view_of("range=90d", one))) for one in (EVERYTHING, BLIND)]
    seen, blind = (one or [] for one in lists)

    assert seen
    assert [one.alert.title for one in seen] == [one.alert.title for one in blind]
    assert [len(one.alert.check) for one in seen] == [len(one.alert.check) for one in blind]
    alike = [one.alert.check == two.alert.check for one, two in zip(seen, blind, strict=True)]
    assert alike.count(True) > len(alike) / 2


def test_who_must_not_see_contents_still_sees_who_did_what(sources: Sources) -> None:
    """People, addresses, operations and times stay, and so do the counts."""
    rows = [
        asyncio.run(sources.ask(view_of("range=30d", access), trails.trail([])))
        for access in (Access("ann", Role.VIEWER, tenants=None), BLIND)
    ]

    assert sorted(row[:7] for row in rows[0]) == sorted(row[:7] for row in rows[1])


@guarantee(43)
@pytest.mark.slow
def test_no_search_tells_what_is_in_a_text(sources: Sources) -> None:
    """Who cannot see a subject cannot find it either."""
    subject = max(sorted(contents_of(sources)), key=len).lower()
    words = {"text": subject, "escaped": json.dumps(subject, ensure_ascii=False)[1:-1]}
    query = trails.trail(["text"])

    assert asyncio.run(sources.ask(view_of("range=30d"), query, **words)) != []
    assert asyncio.run(sources.ask(view_of("range=30d", BLIND), query, **words)) == []


HIDDEN = "Budget 2027 plan"
GUID = "11111111-1111-4111-8111-111111111111"


@guarantee(43)
@pytest.mark.parametrize(
    "record",
    [
        {
            "Subject": HIDDEN,
            "Item": {"Subject": f'x "{HIDDEN}" \\', "ParentFolder": {"Path": f"\\In\\{HIDDEN}"}},
        },
        {"Recipients": ["ann@contoso.example", HIDDEN], "Lists": [[HIDDEN], [{"Any": [HIDDEN]}]]},
        {
            "Parameters": [
                {"Name": "SubjectContainsWords", "Value": HIDDEN},
                {"Name": HIDDEN, "Value": HIDDEN},
            ]
        },
        {"ModifiedProperties": [{"Name": "Title", "NewValue": HIDDEN, "OldValue": HIDDEN}]},
        {"Data": json.dumps({"UserId": "ann@contoso.example", "Subject": HIDDEN}), "Name": HIDDEN},
        {"AccessedResources": [{"ID": f"https://x.example/{HIDDEN}", "Name": HIDDEN}], "UserId ": HIDDEN},
        {
            "ObjectId": f"https://contoso.example/sites/a/{HIDDEN}.docx",
            "Query": f'ann@contoso.example" {HIDDEN}',
        },
    ],
)
def test_of_a_record_stays_what_is_no_content(record: dict[str, Any]) -> None:
    """Whatever stands under an unknown name is emptied; what is left is a record all the same."""
    record |= {
        "UserId": "ann@contoso.example",
        "ClientIP": "192.0.2.7",
        "RecordType": 2,
        "Operation": "Send It",
    }
    raw = json.dumps(record)
    [(left,)] = duckdb.execute(f"SELECT {_RAW} FROM (SELECT $raw AS raw)", {"raw": raw}).fetchall()

    assert HIDDEN not in left
    told = json.loads(left)
    assert told.keys() == record.keys()
    assert [told[name] for name in ("UserId", "ClientIP", "RecordType", "Operation")] == [
        "ann@contoso.example",
        "192.0.2.7",
        2,
        "Send It",
    ]


@pytest.mark.parametrize(
    "raw", ["", "no record", '{"Subject": "Budget 2027 plan', '{"Subject": Budget 2027 plan}']
)
def test_what_cannot_be_read_is_withheld_whole(raw: str) -> None:
    """Nobody knows what is contents in what is no JSON."""
    assert duckdb.execute(f"SELECT {_RAW} FROM (SELECT $raw AS raw)", {"raw": raw}).fetchall() == [("",)]


@pytest.mark.parametrize(
    ("target", "left"),
    [
        ("https://x.sharepoint.com/sites/hr/Shared/Budget.docx", "https://x.sharepoint.com/sites/hr"),
        ("https://x.sharepoint.com/personal/ann_x/a.txt", "https://x.sharepoint.com/personal/ann_x"),
        ("https://x.sharepoint.com/Shared/Budget.docx", "https://x.sharepoint.com/"),
        ("contoso\\ann\\Forward budget", EMPTIED),
        ("ann@contoso.example", "ann@contoso.example"),
        (GUID, GUID),
    ],
)
def test_of_a_file_its_site_stays(target: str, left: str) -> None:
    """What a record is about is shown as far as it is no name that somebody gave a file or a rule."""
    found = duckdb.execute(f"SELECT {_OBJECT} FROM (SELECT $object AS object)", {"object": target})

    assert found.fetchall() == [(left,)]


def asked_about(view: View) -> list[Query]:
    """All that Investigate asks the lake for about what the view mentions."""
    names = names_of(view)
    asked = [trails.figures(names), trails.lanes(names), trails.values(names), trails.trail(names, sheets=50)]
    return [*asked, trails.course("operation", names)]


def records_about(sources: Sources, view: View) -> dict[str, str]:
    """The operations of the records that the view mentions, by the records' ids."""
    rows = asyncio.run(sources.ask(view, trails.trail(names_of(view), sheets=50), **bound_of(view)))
    return {row[0]: row[3] for row in rows}


@pytest.mark.parametrize("kind", ["session", "mailbox", "site"])
def test_what_is_shown_anyway_is_found_without_a_text_being_rewritten(kind: str) -> None:
    """To rewrite a record's text takes 250 times as long as to look into it: of 21,000 it took over 20 s."""
    view = view_of(f"range=30d&{kind}=x", BLIND)

    assert [one.sql for one in asked_about(view) if "raw" in one.columns(view)] == []


@pytest.mark.slow
def test_a_session_is_found_in_all_fields_that_are_shown(sources: Sources) -> None:
    """By its id in a record's own field, in the token's and in the device's: nobody finds more."""
    values = asyncio.run(sources.ask(view_of("range=30d"), trails.values([])))
    sessions = [row[1] for row in values if row[0] == "session"][:8]
    found = {
        one: [
            records_about(sources, view_of(f"range=30d&session={one}", access))
            for access in (EVERYTHING, BLIND)
        ]
        for one in sessions
    }

    assert len(sessions) == 8
    assert all(seen == blind and seen for seen, blind in found.values())
    told = {operation for _, blind in found.values() for operation in blind.values()}
    assert {"UserLoggedIn", "MailItemsAccessed", "FileAccessed"} <= told


def test_what_was_done_in_a_mailbox_is_found(sources: Sources) -> None:
    """By its owner's address, which is shown; of what was set on it the record's own text alone says so."""
    rows = asyncio.run(sources.ask(view_of("range=30d"), trails.trail([], sheets=50)))
    owners = sorted({row[4] for row in rows if row[3] == "MailItemsAccessed"})[:5]
    for owner in owners:
        seen, blind = (
            records_about(sources, view_of(f"range=30d&mailbox={owner}", access))
            for access in (EVERYTHING, BLIND)
        )
        missed = {operation for record, operation in seen.items() if record not in blind}
        assert blind
        assert blind.items() <= seen.items()
        assert all(re.fullmatch("[A-Z][a-z]+-[A-Za-z]+", one) for one in missed), missed


@guarantee(43)
@pytest.mark.slow
def test_nothing_withheld_is_found_by_asking_for_it_under_another_name(sources: Sources) -> None:
    """A subject is no session, a word of it is no mailbox, and what stands for it is found nowhere either."""
    subjects = sorted(contents_of(sources), key=len)[-20:]
    asked = [("session", one) for one in (*subjects, f'":"{EMPTIED}', EMPTIED)]
    asked += [("mailbox", f"{one.split()[0]}@contoso.example") for one in subjects]
    asked += [("mailbox", EMPTIED), ("site", subjects[-1])]
    for kind, value in asked:
        view = view_of(urlencode({"range": "30d", kind: value}), BLIND)
        assert records_about(sources, view) == {}, (kind, value)


@pytest.mark.parametrize("panel", ["figures", "timeline", "compare", "alerts", "records"])
def test_no_text_is_looked_for_in_what_is_withheld(sources: Sources, panel: str) -> None:
    """Nothing is counted for whoever sees no contents, and it is said why."""
    board = board_of(sources, gate=OnlyGate(BLIND))

    answer = asyncio.run(ask(board, f"/panel/investigate/{panel}?range=30d&text=invoice"))

    assert "You see no contents of records" in answer.text


@pytest.mark.slow
def test_what_is_withheld_does_not_read_as_if_it_were_not_there(sources: Sources) -> None:
    """A column that says something to others says "withheld", and neither "none" nor "not said"."""
    urls = [f"/panel/{page.name}/{panel.name}?range=30d" for page in PAGES for panel in page.panels]
    seeing, blind = (
        board_of(sources, gate=OnlyGate(access)) for access in (replace(BLIND, sees_contents=True), BLIND)
    )
    for url in urls:
        told, withheld = (asyncio.run(ask(board, url)).text for board in (seeing, blind))
        lacking = [len(re.findall(r">(?:none|not said)<", text)) for text in (told, withheld)]
        assert lacking[1] <= lacking[0], url


def test_what_is_withheld_is_said_and_not_offered(sources: Sources) -> None:
    """Search says so in place of what a record was about, and offers no export that would be refused."""
    board = board_of(sources, gate=OnlyGate(BLIND))

    page = asyncio.run(ask(board, "/search?range=30d")).text
    shape = asyncio.run(search.hits(view_of("range=30d", BLIND), sources))

    assert "/export/search/hits.csv" in page
    assert "ndjson" not in page.lower()
    assert isinstance(shape, Hits)
    assert {row.cells[-1].text for row in shape.rows} == {EMPTIED}
