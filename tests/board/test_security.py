"""What stands before every request."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from html.parser import HTMLParser
from urllib.parse import urlencode

import pytest
from promises import guarantee

from asking import HOST, ask, view_of
from m365watch.board.app.application import Board
from m365watch.board.app.exports import csv_of
from m365watch.board.app.security_middleware import TOKEN_HEADER
from m365watch.board.factory import read_listen
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.widgets.template_renderer import Templates
from m365watch.board.widgets.widget_types import (
    Act,
    Case,
    Cell,
    Chart,
    Choice,
    Editor,
    Empty,
    Grid,
    Heading,
    Heat,
    HeatCell,
    HeatRow,
    HitRow,
    Hits,
    Instance,
    Instances,
    Lane,
    Lanes,
    Line,
    Listing,
    Mark,
    Matrix,
    Met,
    Passage,
    Past,
    PastShown,
    Queue,
    Ranked,
    Ranking,
    RecordLine,
    Records,
    RecordShown,
    Refused,
    Said,
    ServiceShown,
    Several,
    Shape,
    Spot,
    Tile,
    Tiles,
    Track,
    Trial,
    Waiting,
    Way,
    WorldMap,
)
from m365watch.common.errors import NeedsOperator
from m365watch.config.models.listeners import BoardSection

HOSTILE = """"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}</script>&lt;javascript:x"""
PLACES = [
    *(f"/{page.name}" for page in PAGES),
    *(f"/panel/{page.name}/{page.panels[0].name}" for page in PAGES),
    "/nowhere",
    "/healthz",
]


@pytest.mark.parametrize("place", PLACES)
def test_every_answer_has_the_headers(board: Board, place: str) -> None:
    """No script but our own runs, nothing leaves the machine, nobody frames the pages."""
    answer = asyncio.run(ask(board, place))

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"


@guarantee(42)
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8365", "127.0.0.1:80", "", "127.0.0.1.evil.example"]
)
def test_another_host_is_refused(board: Board, host: str) -> None:
    """A name that somebody else lets point to this machine is not answered."""
    assert asyncio.run(ask(board, "/overview", headers={"host": host})).status == 421


@pytest.mark.parametrize("host", [HOST, "localhost:8365", "LOCALHOST", "[::1]:8365"])
def test_loopbacks_own_names_are_served(board: Board, host: str) -> None:
    """Whoever types localhost sees the page."""
    assert asyncio.run(ask(board, "/healthz", headers={"host": host})).status == 200


@guarantee(42)
def test_nothing_is_changed_without_the_pages_token(board: Board) -> None:
    """A request that may change something needs what only our own page can read."""
    page = asyncio.run(ask(board, "/overview")).text
    found = re.search(r'name="csrf-token" content="([0-9a-f]{64})"', page)
    assert found

    refused = [
        {},
        {TOKEN_HEADER: "0" * 64},
        {TOKEN_HEADER: "é"},
        {TOKEN_HEADER: found[1], "sec-fetch-site": "cross-site"},
    ]
    for headers in refused:
        assert asyncio.run(ask(board, "/overview", method="POST", headers=headers)).status == 403
    ours = {TOKEN_HEADER: found[1], "sec-fetch-site": "same-origin"}
    assert asyncio.run(ask(board, "/overview", method="POST", headers=ours)).status == 405


@guarantee(42)
@pytest.mark.parametrize(
    "listen", ["0.0.0.0:8365", "192.0.2.1:1", "board.example:8365", "[::]:8365", "x", "127.0.0.1:99999"]
)
@pytest.mark.parametrize("board", [None, BoardSection(sign_in=True, address="https://board.example")])
def test_only_loopback_is_listened_at_without_tls(listen: str, board: BoardSection | None) -> None:
    """Nobody opens the records to the network by an option alone: the refusal names what is to be set."""
    with pytest.raises(NeedsOperator) as refused:
        read_listen(listen, board)

    assert "8365" in refused.value.fix
    assert "board.certificate_file" in refused.value.fix or listen in {"x", "127.0.0.1:99999"}


def test_a_port_alone_is_loopbacks() -> None:
    """`--listen 9000` does what is meant."""
    assert (read_listen("9000").host, read_listen("9000").port) == ("127.0.0.1", 9000)
    assert read_listen("[::1]:9000").host == "::1"


class Tags(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def shapes_of(text: str) -> list[Shape]:
    """Every shape, with `text` wherever a record's value may come."""
    chart = Chart([0, 3600], 3600, [Line(text, [1, 2], "c1", ("user", text))])
    ranking = Ranking(text, [Ranked(text, 3, ("user", text), spark=[1, 2], note=text)], 3)
    grid = Grid(
        (Heading(text),), [[Cell(text, ("user", text))], [Cell(text, tone="high")]], title=text, cut=text
    )
    tiles = Tiles([Tile(text, text, text)])
    cell = HeatCell("ok", 0.5, text)
    heat = Heat(0, 3600, 1, [HeatRow(text, [cell], text, text, url="/health")], cut=text)
    empty = Grid((), (), empty=Empty(text, text))
    hits = Hits(
        [Heading(text)],
        [
            HitRow([Cell(text, url="/record")]),
            HitRow([Cell(text, ("user", text))], Passage(text, text, text)),
        ],
        *(chart, 2, 2, 1, f"/search/part?{urlencode({'q': text})}"),
        none=Empty(text, text),
    )
    refused = Hits((), (), chart, 0, 0, 0, refused=Refused(text, 1, text, text))
    return [
        chart,
        ranking,
        grid,
        tiles,
        Several([chart, grid]),
        heat,
        empty,
        hits,
        refused,
        *case_shapes_of(text),
        *configured_shapes_of(text),
    ]


def case_shapes_of(text: str) -> list[Shape]:
    """The shapes of alerts and investigations."""
    way = Way(text, f"/investigate?{urlencode({'text': text})}", text)
    alert = Waiting("ab", "high", text, way.url, "open", [way], 3, text, text, [way], text)
    lines = [RecordLine(1, text, text, is_lit=True, url=way.url), RecordLine(0, text, text)]
    shown = RecordShown(text, text, text, text, [way], lines, text, tone="failed", who=text)
    lane = Lane(text, way.url, "c1", [0, 2], [Mark(0.5, "high", text, way.url)], 2, text)
    return [
        Queue([alert], [Choice(text, [way], text)], [way], text, none=None),
        Queue([], none=Empty(text, text)),
        Case(alert, text, [text], [(text, text)], [text], "/alerts"),
        Listing([Said(text, text, text, commands=[text])], text, text),
        Records([shown], text),
        Matrix([(text, [Met(text, text, 1, 2, "high", way.url)])], text),
        Lanes(0, 3600, 2, [(text, [lane])], [(0.5, text)]),
        WorldMap([Spot(1, 2, text, 0.5, "c1", way.url)], [Track((1, 2), (3, 4), text)], text),
    ]


def configured_shapes_of(text: str) -> list[Shape]:
    """The shapes of the configuration."""
    act = Act(text, text, text)
    service = ServiceShown(text, text, "ok", text, act)
    way = Way(text, "/instance", text)
    url = "/instance"
    one = Instance(
        text, text, text, text, "high", url, text, text, [(text, text)], [service], [act], url, text
    )
    past = [
        PastShown(1, text, text, text, [("added", text)], act, None, text),
        PastShown(2, text, text, text, [], None, way),
    ]
    return [
        Instances([one] * 7, text, [way], [text]),
        Editor(text, text, text, text, is_new=True, templates=[way], chosen=text, back=url),
        Past(past, text),
        Trial(text, text, text),
    ]


@guarantee(45)
def test_a_records_words_are_never_markup() -> None:
    """Whatever a user, a file or a subject is called, the page has the same elements as with a plain name."""
    templates = Templates()
    for hostile, plain in zip(shapes_of(HOSTILE), shapes_of("plain words, nothing else"), strict=True):
        tags = []
        for shape in (hostile, plain):
            parser = Tags()
            parser.feed(templates.render_shape(shape, view=view_of(), path="/overview", title="T"))
            tags.append(parser.found)

        assert tags[0] == tags[1]


@guarantee(45)
def test_nothing_in_a_name_turns_it_round() -> None:
    """A name that would be read backwards, or that hides a part of itself, shows with what it does so."""
    page = Templates().render_shape(
        shapes_of("\u202egnp.exe\x07")[2], view=view_of(), title="T", path="/overview"
    )

    assert "[U+202E]gnp.exe[U+0007]" in page
    assert not re.search("[\u202e\x07]", page)


def test_a_hostile_url_is_never_markup(board: Board) -> None:
    """What a URL narrows to is shown as it is, and is nothing but text."""
    page = asyncio.run(ask(board, f"/overview?{urlencode({'user': HOSTILE, 'by': HOSTILE})}")).text

    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page


def test_no_page_has_a_script_or_a_style_of_its_own(board: Board) -> None:
    """The policy forbids both; a page that had one would be broken in silence."""
    for place in PLACES:
        page = asyncio.run(ask(board, place)).text

        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|hx-on", page), place


@pytest.mark.parametrize("number", range(len(shapes_of(""))))
def test_every_shape_is_exported_and_no_formula_in_it(number: int) -> None:
    """What records say stands in the file, and begins no formula of a spreadsheet."""
    text = csv_of(shapes_of("=cmd()")[number])
    rows = list(csv.reader(io.StringIO(text)))

    assert all(not cell.startswith("=") for row in rows for cell in row)
    assert getattr(shapes_of("")[number], "empty", None) or len(rows) >= 1
