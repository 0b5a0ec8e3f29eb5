"""The API: it does what its document says, for those who may, and nothing for anybody else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from promises import guarantee

from api_calls import NOBODYS_TENANT, Door, mistakes_of
from asking import EVERYTHING, ask, document_of, sources_of, view_of
from m365watch.board.access.roles import Role, Scope
from m365watch.board.api.alert_operations import LIMIT_MAX, Place, part_of
from m365watch.board.api.api_routes import api_document, operations
from m365watch.board.api.operation import Operation
from m365watch.board.api.problem_details import KINDS, MEDIA_TYPE
from m365watch.board.app.application import Board
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.query_context import OPTIONS
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.alerts.triage import set_states
from m365watch.detection.detection_output import FILE_NAME

GUARDED = [one for one in operations() if not one.is_open]
READING = [one for one in GUARDED if one.method == "GET"]
CONTENTS = [one for one in READING if one.shows_contents or one.name == "sql.answer"]
EVERY_SCOPE = tuple(Scope)
EVERY_ALERT = "/api/v1/alerts?range=90d"


@pytest.fixture(scope="module")
def door(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One for all tests here: its pages take longer to make than to ask."""
    sources = sources_of(collected)
    yield Door(sources, tmp_path_factory.mktemp("tokens"))
    assert sources.facts is not None
    sources.facts.close()


@pytest.fixture
def kept(sources: Sources) -> Iterator[KeptAlert]:
    """The worst alert, which is open again afterwards."""
    found = asyncio.run(sources.list_alerts(view_of("range=30d")))
    assert found
    yield found[0]
    path = sources.settings.state_directory / FILE_NAME
    set_states(path, [found[0].alert.id], AlertState.OPEN, reason="", by="", at_ms=0)


def path_of(operation: Operation) -> str:
    """A path that the operation can be called at."""
    for name, value in {"id": "abcd1234", "page": "overview", "panel": "recent", "code": "defect"}.items():
        operation = replace(operation, path=operation.path.replace(f"{{{name}}}", value))
    return operation.path


def test_every_panel_is_described_and_no_name_is_there_twice() -> None:
    """A page that is added is in the document by itself."""
    document = api_document()
    names = [one.name for one in operations()]

    assert len(names) == len(set(names))
    assert {f"/api/v1/{page.name}/{panel.name}" for page in PAGES for panel in page.panels} <= set(
        document["paths"]
    )
    assert not {"export", "problems"} & {page.name for page in PAGES}
    assert not [
        panel.name for page in PAGES for panel in page.panels if re.fullmatch("[0-9a-f]+", panel.name)
    ]
    for reference in re.findall(r'"\$ref": "#/components/(\w+)/(\w+)"', json.dumps(document)):
        assert reference[1] in document["components"][reference[0]]


def test_every_option_of_a_page_is_a_parameter() -> None:
    """What a page's URL can say, a program can ask for."""
    described = {parameter.name for one in operations() for parameter in one.parameters}
    sent = {
        name for one in operations() if one.asks_by_body and one.body for name in one.body.__struct_fields__
    }

    assert set(OPTIONS) <= described | sent


@guarantee(45)
@pytest.mark.parametrize("operation", READING, ids=lambda one: one.name)
def test_what_is_answered_is_as_the_document_says(door: Door, operation: Operation) -> None:
    """Of every panel, and of all else that is read: the type, and every key of it."""
    answer = door.call(path_of(operation), door.token(*EVERY_SCOPE))
    if operation.role is Role.ADMIN:
        assert answer.status == 403
        answer = door.ask_as(EVERYTHING, path_of(operation))
    if operation.name == "alerts.show":
        [first] = document_of(door.call(f"{EVERY_ALERT}&limit=1", door.token(*EVERY_SCOPE)))["alerts"]
        answer = door.call(f"/api/v1/alerts/{first['id'][:12]}", door.token(*EVERY_SCOPE))

    assert answer.status == 200, answer.text
    assert answer.headers["content-type"].partition(";")[0] == operation.media_type
    if "$ref" in operation.gives:
        assert mistakes_of(document_of(answer), operation.gives["$ref"]) == []


@guarantee(42)
@pytest.mark.parametrize("operation", GUARDED, ids=lambda one: one.name)
def test_nobody_gets_in_without_the_right_token(door: Door, operation: Operation) -> None:
    """None, a wrong one, and one that is good for all else: each is refused with a reason."""
    others = tuple(one for one in Scope if one is not operation.scope)
    path, method = path_of(operation), operation.method

    bare = door.call(path, method=method)
    wrong = door.call(path, "m365w_0123456789ab_" + "x" * 43, method=method)
    refused = [(bare, 401), (wrong, 401)]
    if operation.scope is not None:
        refused.append((door.call(path, door.token(*others), method=method, body={}), 403))

    for answer, status in refused:
        assert (answer.status, answer.headers["content-type"]) == (status, MEDIA_TYPE)
        assert mistakes_of(document_of(answer), "#/components/schemas/Problem") == []
    assert "invalid_token" in wrong.headers["www-authenticate"]


@guarantee(42)
@pytest.mark.parametrize("operation", READING, ids=lambda one: one.name)
def test_a_tokens_tenants_are_all_that_it_sees(door: Door, sources: Sources, operation: Operation) -> None:
    """Of every operation there is, and so of those to come: no person, feed or tenant of others."""
    answer = door.call(path_of(operation), door.token(*EVERY_SCOPE, tenants=(NOBODYS_TENANT,)))
    if operation.role is Role.ADMIN:
        stranger = replace(EVERYTHING, tenants=frozenset({NOBODYS_TENANT}))
        answer = door.ask_as(stranger, path_of(operation))

    shown = "" if operation.name == "openapi" else answer.text
    assert answer.status in {200, 403, 404}
    assert "@" not in shown
    assert "Audit." not in shown
    assert not [one.tenant_id for one in sources.settings.tenants if one.tenant_id.lower() in shown.lower()]


@pytest.mark.parametrize(
    "operation",
    [one for one in READING if one.shows_contents or one.name == "sql.answer"],
    ids=lambda one: one.name,
)
def test_a_token_without_contents_is_shown_none(door: Door, operation: Operation) -> None:
    """What is nothing but contents is refused; the rest is withheld where it is read, as for people."""
    answer = door.call(path_of(operation), door.token(*EVERY_SCOPE, contents=False))

    assert answer.status == 403 or "You see no contents of records" in answer.text


@guarantee(45)
def test_alerts_are_paged_without_gap_or_repeat(door: Door) -> None:
    """Part by part, in either order, they are all that there are."""
    token = door.token(Scope.READ)
    for order in ("worst", "latest"):
        whole = document_of(door.call(f"{EVERY_ALERT}&limit={LIMIT_MAX}&order={order}", token))
        found, following = [], ""
        while following is not None:
            after = f"&after={following}" if following else ""
            part = document_of(door.call(f"{EVERY_ALERT}&limit=7&order={order}{after}", token))
            found += [one["id"] for one in part["alerts"]]
            following = part["next"]

        assert found == [one["id"] for one in whole["alerts"]]
        assert len(found) == whole["total"] > 14
        assert whole["next"] is None


@guarantee(45)
def test_what_comes_and_goes_between_two_parts_moves_nobody_else(sources: Sources) -> None:
    """The rest follows the last one's place, not its number: even where the last one itself is gone."""
    every = asyncio.run(sources.list_alerts(view_of("range=30d"))) or []

    def place(one: KeptAlert) -> Place:
        return (0, -one.alert.last_at_ms, one.alert.id)

    ordered = sorted(every, key=place)
    comes, stays, goes = ordered[0], ordered[1:-2], ordered[4]
    first, after = part_of([*stays, *ordered[-2:]], place, after="", limit=4)
    assert first[-1] is goes
    assert after is not None
    rest, following = part_of(
        [comes, *(one for one in stays if one is not goes)], place, after=after, limit=500
    )

    assert [one.alert.id for one in first + rest] == [one.alert.id for one in stays]
    assert following is None


def test_alerts_are_found_by_what_they_are(door: Door) -> None:
    """State, severity, rule, entity: what is answered is what was asked for."""
    token = door.token(Scope.READ)
    every = document_of(door.call(f"{EVERY_ALERT}&limit=500", token))["alerts"]
    first = next(one for one in every if one["entities"])

    worst = document_of(door.call(f"{EVERY_ALERT}&severity=critical&limit=500", token))
    by_rule = document_of(door.call(f"{EVERY_ALERT}&rule={first['rule_id']}", token))
    about = document_of(door.call(f"{EVERY_ALERT}&entity={first['entities'][0]['value']}", token))
    closed = document_of(door.call(f"{EVERY_ALERT}&state=closed&state=acknowledged", token))

    assert {one["severity"] for one in worst["alerts"]} == {"critical"}
    assert {one["rule_id"] for one in by_rule["alerts"]} == {first["rule_id"]}
    assert first["id"] in {one["id"] for one in about["alerts"]}
    assert 0 < about["total"] < len(every)
    assert closed["total"] == 0


def test_a_change_is_kept_with_the_tokens_name(door: Door, kept: KeptAlert) -> None:
    """Acknowledged, closed with a reason, opened again: without any page's token, and never without one."""
    token = door.token(Scope.READ, Scope.ALERTS_WRITE, name="soar")
    url = f"/api/v1/alerts/{kept.alert.id}"

    bare = door.call(url, token, method="PATCH", body={"state": "closed"})
    closed = door.call(url, token, method="PATCH", body={"state": "closed", "reason": "a drill"})
    many = door.call(
        "/api/v1/alerts/state", token, method="POST", body={"ids": [kept.alert.id], "state": "open"}
    )
    shown = document_of(door.call(url, token))

    assert (bare.status, document_of(bare)["code"]) == (400, "body_wrong")
    assert (closed.status, document_of(closed)["state"]) == (200, "closed")
    assert (many.status, document_of(many)["alerts"][0]["state"]) == (200, "open")
    assert [(one["state"], one["reason"], one["by"]) for one in shown["changes"]][-2:] == [
        ("closed", "a drill", "token soar"),
        ("open", "", "token soar"),
    ]


def test_an_alert_that_somebody_has_closed_is_a_conflict(door: Door, kept: KeptAlert) -> None:
    """As on the page: 409, with who closed it and what to do, and not that the body is wrong."""
    token = door.token(Scope.READ, Scope.ALERTS_WRITE, name="shift")
    url = f"/api/v1/alerts/{kept.alert.id}"
    door.call(url, token, method="PATCH", body={"state": "closed", "reason": "a drill"})

    one = door.call(url, token, method="PATCH", body={"state": "acknowledged"})
    body = {"ids": [kept.alert.id], "state": "acknowledged"}
    many = door.call("/api/v1/alerts/state", token, method="POST", body=body)
    door.call(url, token, method="PATCH", body={"state": "open"})

    for told in (one, many):
        assert (told.status, document_of(told)["code"]) == (409, "alert_closed")
        assert document_of(told)["detail"].endswith(
            "token shift has closed it (a drill); open it again first"
        )


def test_a_network_that_is_none_is_refused(door: Door) -> None:
    """A slip does not find nothing, as if the address had done nothing."""
    answers = [
        door.call(f"/api/v1/overview/figures?ip={one}", door.token(*EVERY_SCOPE))
        for one in ("10.0.0.0/99", "10.0.0.0/8")
    ]

    assert [one.status for one in answers] == [400, 200]
    assert document_of(answers[0])["detail"].startswith("ip: '10.0.0.0/99' is not an address, a network")


def test_another_tenants_alert_cannot_be_changed(door: Door, kept: KeptAlert, sources: Sources) -> None:
    """For whoever is not of the tenant it is not there."""
    stranger = door.token(*EVERY_SCOPE, tenants=(NOBODYS_TENANT,))
    body = {"ids": [kept.alert.id], "state": "acknowledged"}

    one = door.call(f"/api/v1/alerts/{kept.alert.id}", stranger, method="PATCH", body={"state": "open"})
    many = door.call("/api/v1/alerts/state", stranger, method="POST", body=body)

    now = asyncio.run(sources.find_alert(view_of(), kept.alert.id))
    assert (one.status, many.status) == (404, 404)
    assert now is not None
    assert now.state is AlertState.OPEN


@guarantee(42)
def test_nothing_is_changed_from_a_browser_alone(board: Board, kept: KeptAlert) -> None:
    """Whoever is let in without a token, as on loopback, needs one of these two to change anything."""
    url, body = f"/api/v1/alerts/{kept.alert.id}", b'{"state": "acknowledged"}'
    headers = {"content-type": "application/json", "cookie": "token=m365w_0123456789ab_" + "x" * 43}

    answer = asyncio.run(ask(board, url, method="PATCH", headers=headers, body=body))

    assert (answer.status, document_of(answer)["code"]) == (403, "forgery_refused")


WRONG = {
    "/api/v1/overview/figures?range=9d": (400, "parameter_wrong"),
    "/api/v1/overview/figures?usr=ann": (400, "parameter_wrong"),
    "/api/v1/overview/figures?result=maybe": (400, "parameter_wrong"),
    "/api/v1/overview/figures?range=1h&range=6h": (400, "parameter_wrong"),
    "/api/v1/overview/figures?from=2026-01-02&to=2026-01-01": (400, "parameter_wrong"),
    "/api/v1/overview/figures?from=2026-01-01&range=1h": (400, "parameter_wrong"),
    "/api/v1/overview/figures?to=2026-01-01": (400, "parameter_wrong"),
    "/api/v1/overview/figures?from=0001-01-01": (400, "parameter_wrong"),
    "/api/v1/overview/figures?session=x": (400, "parameter_wrong"),
    "/api/v1/overview/figures?user=" + "x" * 301: (400, "parameter_wrong"),
    "/api/v1/overview/figures?user=%00": (400, "parameter_wrong"),
    "/api/v1/alerts/queue?state=clsoed": (400, "parameter_wrong"),
    "/api/v1/alerts/queue?severity=hgih": (400, "parameter_wrong"),
    "/api/v1/overview/figures?user=%E2%80%8B": (400, "parameter_wrong"),
    "/api/v1/search/hits?q=" + "x" * 2_001: (400, "parameter_wrong"),
    "/api/v1/overview/figures?" + "&".join(f"user=u{n}" for n in range(21)): (400, "parameter_wrong"),
    "/api/v1/overview/nothing": (404, "not_there"),
    "/api/v1/alerts/ffffffff": (404, "not_there"),
    "/api/v1/alerts/xyz": (400, "parameter_wrong"),
    "/api/v1/alerts?limit=0": (400, "parameter_wrong"),
    "/api/v1/alerts?limit=%C2%B2": (400, "parameter_wrong"),
    "/api/v1/alerts?after=1.2.3": (400, "parameter_wrong"),
    "/api/v1/export/overview/nothing": (404, "not_there"),
    "/api/v2": (404, "not_there"),
}


@guarantee(45)
def test_a_filter_may_be_as_long_as_the_document_says(door: Door) -> None:
    """Sixty people by name are some 1,600 characters."""
    filters = " OR ".join(f"user:u{number}@contoso.example" for number in range(60))

    answer = door.call(f"/api/v1/search/hits?range=24h&{urlencode({'q': filters})}", door.token(*EVERY_SCOPE))

    assert 1_500 < len(filters) <= 2_000
    assert answer.status == 200, answer.text


@guarantee(45)
@pytest.mark.parametrize("url", WRONG)
def test_what_cannot_be_meant_is_told(door: Door, url: str) -> None:
    """A program is not given something else than it has asked for."""
    answer = door.call(url, door.token(*EVERY_SCOPE))

    assert (answer.status, document_of(answer)["code"]) == WRONG[url]
    assert answer.headers["content-type"] == MEDIA_TYPE


@pytest.mark.parametrize(
    ("method", "kind", "body", "status"),
    [
        ("PATCH", "text/plain", b"{}", 415),
        ("PATCH", "application/json", b"{", 400),
        ("PATCH", "application/json", b'{"state": "gone"}', 400),
        ("PATCH", "application/json", b'{"state": "open", "more": 1}', 400),
        ("PATCH", "application/json", b'"\xff"', 400),
        ("PATCH", "application/json", b'{"state":"open","reason":"' + b"x" * 70_000 + b'"}', 400),
        ("DELETE", "application/json", b"", 405),
    ],
)
def test_a_body_that_cannot_be_meant_is_told(
    door: Door, method: str, kind: str, body: bytes, status: int
) -> None:
    """The same for what is sent."""
    headers = {"authorization": f"Bearer {door.token(*EVERY_SCOPE)}", "content-type": kind}

    answer = asyncio.run(ask(door.board, "/api/v1/alerts/abcd", method=method, headers=headers, body=body))

    assert (answer.status, answer.headers["content-type"]) == (status, MEDIA_TYPE)


def test_every_kind_of_problem_is_explained(door: Door) -> None:
    """Where its `type` leads, for anybody."""
    for kind in KINDS:
        said = document_of(door.call(kind.url))

        assert said == {"code": kind.code, "status": kind.status, "title": kind.title}


@guarantee(42)
def test_a_token_has_its_pace(door: Door) -> None:
    """Who asks too much is told when to ask again; others are not held up."""
    busy, other = door.token(Scope.READ), door.token(Scope.READ)
    answers = [door.call("/api/v1/problems/defect", busy)] + [
        door.call("/api/v1/alerts?limit=0", busy) for _ in range(200)
    ]

    held = [one for one in answers if one.status == 429]
    assert held
    assert int(held[0].headers["retry-after"]) >= 1
    assert document_of(held[0])["code"] == "too_many"
    assert door.call("/api/v1/alerts?limit=1", other).status == 200


def test_records_are_found_as_they_were_sent(door: Door) -> None:
    """Each is a line of its own, as many as were asked for; a filter that cannot be read is told where."""
    token = door.token(Scope.EXPORT)

    found = door.call("/api/v1/records?q=workload:exchange&range=30d&limit=7", token)
    refused = door.call("/api/v1/records?q=user:", token)

    records = [json.loads(line) for line in found.text.splitlines()]
    assert [one["Workload"] for one in records] == ["Exchange"] * 7
    assert (refused.status, document_of(refused)["code"]) == (400, "filter_refused")


def test_a_panel_is_taken_along_as_csv(door: Door) -> None:
    """The same rows as the page's own link gives."""
    answer = door.call("/api/v1/export/overview/recent", door.token(Scope.EXPORT))

    assert answer.headers["content-disposition"] == 'attachment; filename="m365watch-overview-recent.csv"'
    assert len(answer.text.splitlines()) == 101
