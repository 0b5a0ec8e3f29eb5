"""The search: what is found, in which parts, within whose rights."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, timedelta
from html import unescape
from pathlib import Path
from urllib.parse import quote, urlencode

import duckdb
import pytest
from deltalake import DeltaTable
from promises import guarantee
from starlette.requests import HTTPConnection

from asking import EVERYTHING, Answer, ask, ask_sql, board_of, document_of, sources_of, view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.application import Board
from m365watch.board.app.exports import csv_line
from m365watch.board.pages import search
from m365watch.board.query.completion import complete
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import name_tenants
from m365watch.board.query.entity_counts import bound_of
from m365watch.board.query.search_queries import HitsReader
from m365watch.board.query.sql import activity_queries as activity
from m365watch.board.query.sql import entity_queries as trails
from m365watch.board.widgets.widget_types import Hits
from m365watch.lake.search.record_search import Hit

STRANGER = Access("bob", Role.ADMIN, tenants=frozenset({"00000000-0000-4000-8000-000000000000"}))


def counted(collected: Path, condition: str) -> int:
    """How many records fulfil a condition, read from the lake's files by nothing of ours."""
    files = DeltaTable(collected.parent / "lake" / "audit").file_uris()
    sql = f"SELECT count(*) FROM read_parquet($files) WHERE {condition}"
    return int((duckdb.execute(sql, {"files": files}).fetchone() or (0,))[0])


def searched(sources: Sources, query: str, access: Access = EVERYTHING) -> Hits:
    shape = asyncio.run(search.hits(view_of(query, access), sources))
    assert isinstance(shape, Hits)
    return shape


FOUND = [
    ("op:UserLoggedIn", "lower(operation) = 'userloggedin'"),
    ("workload:Exchange -op:MailItemsAccessed", "workload = 'Exchange' AND operation <> 'MailItemsAccessed'"),
    ("inboxrule", "contains(lower(raw), 'inboxrule')"),
    ("", "true"),
]


@pytest.mark.parametrize(("text", "condition"), FOUND)
def test_a_search_counts_what_the_lake_has(
    sources: Sources, collected: Path, text: str, condition: str
) -> None:
    """The number, the course and the newest rows are those of the lake's own files."""
    shape = searched(sources, urlencode({"range": "30d", "q": text}))

    assert not shape.more
    assert shape.count == sum(shape.chart.lines[0].values) == counted(collected, condition) > 0
    assert len(shape.rows) == min(shape.count, search.ROWS_SHOWN)
    times = [row.cells[0].sorts or 0 for row in shape.rows]
    assert times == sorted(times, reverse=True)


def test_whoever_types_a_first_name_is_told_how_names_are_found(sources: Sources) -> None:
    """Without @ a name is all that stands before it; where nobody has it, the way to parts is said."""
    rows = asyncio.run(sources.ask(view_of("range=30d"), activity.share_of("user_id")))
    name = next(user.partition("@")[0] for user, _ in rows if "." in user.partition("@")[0] and "@" in user)
    whole, part, other = (
        searched(sources, urlencode({"range": "30d", "q": f"user:{one}"}))
        for one in (name.upper(), name.partition(".")[0], f"{name}@elsewhere.example")
    )

    assert whole.count > 0 == part.count == other.count
    assert part.none is not None
    assert f"user:{name.partition('.')[0]}* finds" in part.none.then
    assert other.none is not None
    assert other.none.then.startswith("Values are compared whole")


def test_the_filters_of_the_page_hold_for_the_search(sources: Sources, collected: Path) -> None:
    """Time, workload and result narrow a search as they narrow a chart."""
    shape = searched(sources, "range=30d&workload=Exchange&workload=OneDrive&result=ok&q=-op:Send")

    condition = "workload IN ('Exchange', 'OneDrive') AND operation <> 'Send'"
    assert 0 < shape.count <= counted(collected, condition)
    assert {row.cells[1].text for row in shape.rows} <= {"Exchange", "OneDrive"}
    assert {row.cells[5].text for row in shape.rows} <= {"success", "unknown"}
    assert searched(sources, "from=2020-01-01&to=2020-02-01").count == 0


@guarantee(45)
def test_a_search_says_whom_it_is_about_and_what_came_of_it(sources: Sources, collected: Path) -> None:
    """Microsoft's alerts stand under the person, not their service; a failed sign-in is no success."""
    alerts = searched(sources, "range=30d&type=40")
    [who, *_] = {row.cells[3].text for row in alerts.rows}
    failed = searched(sources, "range=30d&q=op:UserLoginFailed")

    assert alerts.count == counted(collected, "record_type = 40 AND user_id = 'SecurityComplianceAlerts'") > 0
    assert all("@" in row.cells[3].text for row in alerts.rows)
    assert searched(sources, f"range=30d&type=40&user={who}").count > 0
    assert {row.cells[5].text for row in failed.rows} == {"failure"}
    assert searched(sources, "range=30d&q=outcome:failure op:UserLoginFailed").count == failed.count


@guarantee(45)
@pytest.mark.parametrize("name", ["mailbox", "site", "session", "text"])
def test_a_search_finds_what_an_investigation_is_about(sources: Sources, name: str) -> None:
    """No record more, and none less: one leads to the other."""
    value = asyncio.run(mentioned(sources))[name]
    query = urlencode({"range": "30d", name: value})
    trail = trails.trail([name], sheets=50)
    told = asyncio.run(sources.ask(view_of(query), trail, **bound_of(view_of(query))))

    async def found() -> list[Hit]:
        chunks = sources.read_hits(view_of(query), None, most=100_000)
        return [hit for hits in [one async for one in chunks] for hit, _ in hits]

    assert sorted(one.values["id"] for one in asyncio.run(found())) == sorted(row[0] for row in told)
    assert told


async def mentioned(sources: Sources) -> dict[str, str]:
    """Of each kind what the records of an intruder's delegate name, in their own case."""
    asked = trails.traces(
        "SELECT max(CASE WHEN owner <> user_id THEN owner END), max(session),"
        " max(regexp_extract(object, '^https://[^/]+/[^/]+/[^/]+/'))"
        " FROM (SELECT *, try(json_extract_string(raw, '$.MailboxOwnerUPN')) AS owner FROM facts)"
    )
    [(owner, session, site)] = await sources.ask(view_of("range=30d"), asked)
    return {"mailbox": owner, "session": session, "site": site, "text": owner.partition("@")[0]}


@pytest.fixture
def pieces(collected: Path) -> Iterator[Board]:
    """The pages, which search in many small parts."""
    sources = sources_of(collected)
    assert sources.facts is not None
    sources.facts.hits.close()
    sources.facts.hits = HitsReader(collected.parent / "lake", part_records=60)
    yield board_of(sources)
    sources.facts.close()


def followed(board: Board, query: str) -> list[Answer]:
    """The panel, and every further part that the one before names."""
    answers = [asyncio.run(ask(board, f"/panel/search/hits?{query}"))]
    while more := re.search(r'data-more="([^"]+)"', answers[-1].text):
        answers.append(asyncio.run(ask(board, unescape(more[1]))))
        assert answers[-1].status == 200
    return answers


@pytest.mark.parametrize(
    ("shown", "kept"),
    [
        ('workload:"Entra ID"', "workload:AzureActiveDirectory"),
        ('-workload:Exchange,"entra id"', "-workload:exchange -workload:AzureActiveDirectory"),
        ('app:"exchange online"', "app:00000002-0000-0ff1-ce00-000000000000"),
        ("usertype:regular", "usertype:0"),
        ('type:"Entra sign-ins" workload:*', "type:15"),
    ],
)
def test_a_search_knows_what_is_displayed(sources: Sources, shown: str, kept: str) -> None:
    """What a page calls something can be typed; what records have stays right."""
    asked = [
        asyncio.run(search.hits(view_of(urlencode({"range": "30d", "q": one})), sources))
        for one in (shown, kept)
    ]

    counts = [one.count for one in asked if isinstance(one, Hits)]
    assert counts[0] == counts[1] > 0


def test_a_search_knows_a_tenant_by_its_name(sources: Sources) -> None:
    """Nobody knows the ids of tenants."""
    [(tenant, name)] = asyncio.run(name_tenants(view_of(), sources)).items()

    assert hits_of(sources, f'tenant:"{name}"') == hits_of(sources, f"tenant:{tenant}") > 0


def hits_of(sources: Sources, text: str) -> int:
    """How many records the newest part has."""
    shape = asyncio.run(search.hits(view_of(urlencode({"range": "30d", "q": text})), sources))
    assert isinstance(shape, Hits)
    return shape.count


def test_older_parts_follow_one_by_one(pieces: Board, collected: Path) -> None:
    """The first answer has the newest days, each further one those before; together they have everything."""
    answers = followed(pieces, urlencode({"range": "30d", "q": "inboxrule OR op:UserLoggedIn"}))

    figures = [dict(re.findall(r'data-(count|searched|left)="(\d+)"', one.text)) for one in answers]
    assert len(answers) > 2
    condition = "contains(lower(raw), 'inboxrule') OR lower(operation) = 'userloggedin'"
    assert sum(int(one["count"]) for one in figures) == counted(collected, condition)
    assert sum(int(one["searched"]) for one in figures) == counted(collected, "true")
    assert [int(one["left"]) for one in figures][-1] == 0
    times = [float(one) for answer in answers for one in re.findall(r'data-value="(\d+)"', answer.text)]
    assert times == sorted(times, reverse=True)
    assert len(times) <= search.ROWS_SHOWN


REFUSED = ["usr:alice", "user:ann (", 'op:Send "']


@pytest.mark.parametrize("text", REFUSED)
def test_a_filter_with_a_mistake_is_shown_where_it_goes_wrong(board: Board, text: str) -> None:
    """The panel repeats it, with the rest from the mistake on marked; the document says the same."""
    answer = asyncio.run(ask(board, f"/panel/search/hits?q={quote(text)}"))
    document = document_of(asyncio.run(ask(board, f"/api/v1/search/hits?q={quote(text)}")))
    part = asyncio.run(ask(board, f"/search/part?q={quote(text)}&before=1"))

    at = document["panel"]["refused"]["at"]
    assert answer.status == 200
    assert f"<mark>{text[at:] or ' '}</mark>" in unescape(answer.text)
    assert f'data-refused="{at}"' in answer.text
    assert part.status == 503


@guarantee(43)
def test_a_stranger_finds_nothing(sources: Sources) -> None:
    """Whoever may see another tenant finds no record of this one, whatever the filter says."""
    for text in ("", "tenant:*", "-tenant:x", "user:* OR -user:*", "inboxrule"):
        shape = searched(sources, urlencode({"range": "30d", "q": text}), STRANGER)
        assert (shape.count, list(shape.rows)) == (0, [])


def test_a_text_is_shown_where_it_stands(sources: Sources) -> None:
    """Beside each hit there is the piece of the record, with the text marked in it."""
    shape = searched(sources, urlencode({"range": "30d", "q": "inboxRULE"}))

    passages = [row.passage for row in shape.rows]
    assert passages
    assert {one.found.lower() for one in passages if one is not None} == {"inboxrule"}


def test_nobody_is_told_how_many_records_others_have(sources: Sources, collected: Path) -> None:
    """What has been searched are records of the view's time and of tenants that its reader may see."""
    newest = "SELECT max(created_at) FROM read_parquet($files)"
    files = DeltaTable(collected.parent / "lake" / "audit").file_uris()
    last = (duckdb.execute(newest, {"files": files}).fetchone() or ())[0]
    hour = last.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    span = urlencode(
        {"from": f"{hour:%Y-%m-%dT%H:%MZ}", "to": f"{hour + timedelta(hours=1):%Y-%m-%dT%H:%MZ}"}
    )
    since, until = f"'{hour}'::TIMESTAMPTZ", f"'{hour + timedelta(hours=1)}'::TIMESTAMPTZ"
    of_the_hour = counted(collected, f"created_at >= {since} AND created_at < {until}")

    mine, strange = (searched(sources, span, access) for access in (EVERYTHING, STRANGER))

    assert (mine.searched + mine.left, strange.searched + strange.left) == (of_the_hour, 0)
    assert of_the_hour < counted(collected, "true")


def test_whoever_leaves_is_not_searched_for(board: Board) -> None:
    """A browser that went away gets no answer, and its search is stopped."""
    for path in ("/panel/search/hits?range=30d&q=a", "/search/part?range=30d&q=a&before=99999999999"):
        assert asyncio.run(ask(board, path, leaves=True)).status in {200, 499}


def completed(sources: Sources, text: str, access: Access = EVERYTHING) -> tuple[str, list[str]]:
    """What would be replaced at the end of a filter, and what by."""
    found = asyncio.run(complete(view_of("range=30d", access), sources, text, len(text)))
    return text[found.start : found.end], [one.text for one in found.choices]


COMPLETED = [
    ("", "", "user:"),
    ("us", "us", "user:"),
    ("-us", "us", "user:"),
    ("alice (op", "op", "operation:"),
    ("op:userlog", "userlog", "UserLoggedIn"),
    ("op:Send,userlog", "userlog", "UserLoggedIn"),
    ("op:(Send OR userlog", "userlog", "UserLoggedIn"),
    ("result:", "", "failed"),
    ('user:"nt auth', '"nt auth', '"NT AUTHORITY'),
    ("raw.", "raw.", "raw.UserAgent:"),
    ("workload:azure", "azure", "AzureActiveDirectory"),
]


@pytest.mark.parametrize(("text", "replaced", "offered"), COMPLETED)
def test_what_may_come_is_offered(sources: Sources, text: str, replaced: str, offered: str) -> None:
    """Names of fields, and the values that the records of the view have; quoted where they must be."""
    taken, choices = completed(sources, text)

    assert taken == replaced
    assert any(one.lower().startswith(offered.lower()) for one in choices), choices


@pytest.mark.parametrize("text", ["usr:a", '"user:', "op:Send ", "a b:", "object:x", "$", 'x"'])
def test_nothing_is_offered_where_nothing_is_known(sources: Sources, text: str) -> None:
    """A field that is none, a text, a value of which no list is kept."""
    _, choices = completed(sources, text)

    assert choices == [] or text.endswith(" ")


@guarantee(43)
def test_a_strangers_completions_name_nobody(sources: Sources) -> None:
    """Whoever may see another tenant is offered no name of this one."""
    assert completed(sources, "user:", STRANGER) == ("", [])
    assert completed(sources, "op:", STRANGER) == ("", [])


VIEWER = Access("vera", Role.VIEWER, tenants=None)


class GateFor:
    """Whoever comes is the same person."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def access_of(self, connection: HTTPConnection) -> Access:
        return self._access


def test_all_hits_are_exported(board: Board, collected: Path) -> None:
    """As rows for a spreadsheet, and as the records that were sent, byte for byte."""
    query = urlencode({"range": "30d", "q": "workload:Exchange"})
    table = asyncio.run(ask(board, f"/export/search/hits.csv?{query}"))
    records = asyncio.run(ask(board, f"/export/search/hits.ndjson?{query}"))

    rows = list(csv.DictReader(io.StringIO(table.text)))
    lines = records.body.splitlines()
    assert len(rows) == len(lines) == counted(collected, "workload = 'Exchange'")
    assert [row["id"] for row in rows] == [json.loads(line)["Id"] for line in lines]
    assert [row["time"] for row in rows] == sorted((row["time"] for row in rows), reverse=True)
    files = DeltaTable(collected.parent / "lake" / "audit").file_uris()
    sent = duckdb.execute(
        "SELECT raw FROM read_parquet($files) WHERE workload = 'Exchange'", {"files": files}
    ).fetchall()
    assert sorted(lines) == sorted(raw.encode() for (raw,) in sent)
    assert ".ndjson" in records.headers["content-disposition"]


@guarantee(45)
@pytest.mark.parametrize("path", ["search/hits.csv", "search/hits.ndjson", "sql/answer.csv"])
def test_an_export_is_of_what_was_asked_for(board: Board, path: str) -> None:
    """A file cannot say that it does without a filter: it is refused, with what is wrong."""
    url = f"/export/{path}?range=30d&user=%00&result=bad"
    answer = asyncio.run(ask_sql(board, url, "SELECT 1") if "sql" in path else ask(board, url))

    assert (answer.status, answer.text) == (
        400,
        "user is no text of at most 300 characters; result=bad is not ok or failed\n",
    )


def test_an_export_is_bounded(sources: Sources) -> None:
    """It ends with the newest that it may hold."""

    async def read() -> list[int]:
        times = []
        async for hits in sources.read_hits(view_of("range=30d"), None, most=30):
            times += [hit.at_s for hit, _ in hits]
        return times

    times = asyncio.run(read())

    assert len(times) == 30
    assert times[0] == max(times) == searched(sources, "range=30d").rows[0].cells[0].sorts


@guarantee(43)
@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_who_may_look_may_not_export(sources: Sources, kind: str) -> None:
    """An export asks for an analyst; a mistake in a filter is told before anything is sent."""
    stranger = board_of(sources, gate=GateFor(STRANGER))
    viewer = board_of(sources, gate=GateFor(VIEWER))
    path = f"/export/search/hits.{kind}?range=30d"

    nothing = asyncio.run(ask(stranger, path))
    assert len(nothing.body.splitlines()) == (1 if kind == "csv" else 0)
    assert asyncio.run(ask(viewer, path)).status == 404
    assert asyncio.run(ask(viewer, "/panel/search/hits?range=30d")).status == 200
    assert asyncio.run(ask(board_of(sources), f"{path}&q=usr:x")).status == 400


@guarantee(45)
def test_a_table_hides_and_calculates_nothing() -> None:
    """Formulas are texts, and what would turn a name round is written out."""
    cells = ["=1+1", "+1", "-1+1", "@x", " =1", "\t=1", "\uff1d1", "a\u202egpj.exe", "\u202e=1", "plain"]
    [row] = csv.reader(io.StringIO(csv_line(cells)))

    assert row[-1] == "plain"
    assert all(one.startswith("'") for one in row[:7])
    assert row[7:9] == ["a[U+202E]gpj.exe", "[U+202E]=1"]


BLIND = Access("blake", Role.ANALYST, tenants=None, sees_contents=False)


@guarantee(43)
def test_who_sees_no_contents_learns_of_none(sources: Sources) -> None:
    """No file's name is shown, no text looked for, and nothing exported or asked that would have them."""
    shape = searched(sources, urlencode({"range": "30d", "q": "workload:SharePoint"}), BLIND)
    blind = board_of(sources, gate=GateFor(BLIND))
    query = urlencode({"range": "30d", "q": "workload:SharePoint"})
    table = asyncio.run(ask(blind, f"/export/search/hits.csv?{query}"))

    assert shape.rows
    assert {row.cells[-1].text for row in shape.rows} == {"withheld"}
    for text in ("invoice", "-invoice", "object:*a*", "user:x OR raw.Subject:*"):
        assert searched(sources, urlencode({"q": text}), BLIND).refused
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert rows
    assert {row["object"] for row in rows} == {""}
    assert asyncio.run(ask(blind, f"/export/search/hits.ndjson?{query}")).status == 404
    assert asyncio.run(ask_sql(blind, "/export/sql/answer.csv", "SELECT 1")).status == 404
    assert "no contents" in asyncio.run(ask_sql(blind, "/panel/sql/answer", "SELECT raw FROM audit")).text


NEGATED = [
    "workload=Exchange",
    "user=",
    "type=15&type=50",
    "operation=Send&operation=UserLoggedIn",
    "usertype=0",
]


@pytest.mark.parametrize("query", NEGATED)
def test_what_is_left_out_is_the_rest(sources: Sources, query: str) -> None:
    """What has a value and what has it not are all records, on every page and for the search."""
    if query == "user=":
        [(person, _)] = asyncio.run(sources.ask(view_of("range=30d"), activity.share_of("user_id")))[:1]
        query = urlencode({"user": person})
    totals = []
    for asked in ("", query, "&".join(f"not-{one}" for one in query.split("&"))):
        [(total,)] = asyncio.run(sources.ask(view_of(f"range=30d&{asked}"), activity.TOTAL))
        assert searched(sources, f"range=30d&{asked}").count == total > 0
        totals.append(total)

    assert totals[0] == totals[1] + totals[2]


def test_the_form_of_the_filters_leads_to_what_is_not(board: Board) -> None:
    """Is, or is not; only what can be left out is."""
    form = "/narrow?page=overview&range=24h&dimension={}&sense=not&value=xyzzy"

    answers = [asyncio.run(ask(board, form.format(name))) for name in ("user", "tenant", "nonsense")]
    page = asyncio.run(ask(board, "/overview?not-user=xyzzy")).text

    places = [one.headers["location"] for one in answers]
    assert places == [
        "/overview?range=24h&not-user=xyzzy",
        "/overview?range=24h&tenant=xyzzy",
        "/overview?range=24h",
    ]
    assert "User is not</span> xyzzy<" in page


def test_values_are_offered_where_a_page_is_narrowed(board: Board) -> None:
    """Those that the records of the view have, as they are, with how many there are."""

    def offered(query: str) -> list[str]:
        document = document_of(asyncio.run(ask(board, f"/values?range=30d&{query}")))
        return [one["text"] for one in document["choices"]]

    assert "UserLoggedIn" in offered("dimension=operation&typed=userlog")
    assert offered("dimension=result&typed=f") == ["failed"]
    assert offered("dimension=workload&typed=exch&workload=SharePoint") == []
    assert offered("dimension=nonsense&typed=a") == []


def test_what_is_investigated_is_searched_for(sources: Sources) -> None:
    """The text, session, mailbox or site of an investigation holds for the search that it leads to."""
    every = searched(sources, "range=30d&q=workload:Exchange")
    some = searched(sources, "range=30d&q=workload:Exchange&text=InboxRule")

    assert 0 < some.count < every.count
    assert some.count == searched(sources, "range=30d&q=workload:Exchange+inboxrule").count
