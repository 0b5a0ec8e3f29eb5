"""A view and its URL say the same."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from urllib.parse import urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from asking import ask, view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.application import Board
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.query.dimension_filters import (
    DIMENSIONS,
    NEGATED,
    NUMBERS,
    OUTCOMES,
    VALUES_MAX,
    plain_name,
)
from m365watch.board.query.query_context import UNDER
from m365watch.board.query.time_range import HOUR_S, POINTS_MAX, PRESETS
from m365watch.board.widgets.labels import change_words

NOW = datetime(2026, 11, 24, 9, 17, 31, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40)


def values_of(name: str) -> st.SearchStrategy[str]:
    if name == "result":
        return st.sampled_from(OUTCOMES)
    return st.integers(0, 999).map(str) if name in NUMBERS else TEXTS


QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "range": st.sampled_from([*PRESETS, "nonsense", ""]),
        "from": st.sampled_from(["2026-11-20T10:00Z", "1795000000", "never", "9" * 40]),
        "to": st.sampled_from(["2026-11-21T10:20Z", "1795400000", "-1"]),
        **{name: values_of(name) for name in DIMENSIONS},
        **{name: values_of(plain_name(name)) for name in NEGATED},
    },
)


@given(QUERIES)
def test_a_view_comes_back_from_its_url(asked: dict[str, str]) -> None:
    """Whoever is sent a URL sees the same view, however odd the URL that it was made from."""
    view = view_of(urlencode(asked), now=NOW)

    again = view_of(urlsplit(view.url("/overview")).query, now=NOW)

    assert again == view


@given(QUERIES, TEXTS, st.sampled_from(["", "overview", "investigate"]), st.booleans())
def test_a_url_with_an_option_is_made_of_one_before(
    asked: dict[str, str], value: str, page: str, is_asked: bool
) -> None:
    """What a table says row after row is put into what stands around it, and comes to the same."""
    more = {"record": "1:a", "sheet": "2"} if is_asked else {}
    view = replace(view_of(urlencode(asked | more), now=NOW), page=page)

    made = [view.option_url("/record", "record", one) for one in ("1:other", value)]

    assert made == [view.url("/record", record=one) for one in ("1:other", value)]


@given(QUERIES, st.sampled_from([*DIMENSIONS, *NEGATED]), TEXTS, st.sampled_from(["overview", "exchange"]))
def test_a_narrowed_url_is_that_of_the_narrowed_view(
    asked: dict[str, str], name: str, value: str, page: str
) -> None:
    """Tables have hundreds, all made of the first one."""
    view = replace(view_of(urlencode(asked | {"by": "way", "sheet": "3"}), now=NOW), page=page)
    options = tuple(one for one in view.options if one[0] != "sheet")

    for text in (value, "a&b=c d/ü"):
        narrowed = replace(view, narrowing=view.narrowing.with_value(name, text), options=options)
        assert view.narrowed_url("/overview", name, text) == narrowed.url("/overview")


@guarantee(45)
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("result=bad", "result=bad is not ok or failed"),
        ("type=abc", "type=abc is not a number"),
        ("not-usertype=admin", "not-usertype=admin is not a number"),
        ("ip=10.0.0.0/99", "ip=10.0.0.0/99 is not an address or a network"),
        ("not-ip=2001:db8::/200", "not-ip=2001:db8::/200 is not an address or a network"),
        ("user=%00", "user is no text of at most 300 characters"),
        (f"user={'u' * 301}", "user is no text of at most 300 characters"),
        ("range=5y", "range=5y is not one of 1h, 6h, 24h, 3d, 7d, 30d, 90d"),
        ("from=x", "from=x and to= are no two instants, the earlier first, of at most 400 days"),
        ("&".join(f"user=u{one}" for one in range(21)), "of user the first 20 values count"),
    ],
)
def test_what_a_url_asks_for_in_vain_is_told(board: Board, asked: str, told: str) -> None:
    """The page says what it does without, and a file that cannot say it is refused."""
    page = asyncio.run(ask(board, f"/trail?{asked}")).text
    file = asyncio.run(ask(board, f"/export/health/feeds.csv?{asked}"))
    right = view_of("result=ok&type=15&user=ann@contoso.example&range=24h&alert=&from=&to=")

    assert f"cannot be read: {told}." in page
    assert (file.status, file.text) == (400, f"{told}\n")
    assert right.unread == ()
    assert 'class="unread"' not in asyncio.run(ask(board, "/trail?range=24h&result=ok")).text


@guarantee(45)
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("/overview?usr=ann", "nothing is called usr; did you mean user?"),
        ("/alerts?page=99", "nothing is called page"),
        ("/alerts?state=zz", "state=zz is not one of open, acknowledged, active, closed, all"),
        ("/alerts?severity=zz", "severity=zz is not one of"),
        ("/overview?state=open&by=type&sheet=2", ""),
        ("/overview?by=operation", "by=operation is not one of workload, type, usertype"),
        ("/exchange?by=zz", "by=zz is not one of operation, usertype"),
        ("/sharepoint?by=zz", "by=zz is not one of outside, everybody"),
        ("/investigate?by=zz", "by=zz is not one of before, week, chosen"),
        ("/alerts?by=zz", "by=zz is not one of severity, newest"),
        ("/trail?by=zz", "by=zz is not one of all, looks"),
        ("/alerts?state=closed&severity=only-high&by=newest&range=24h&q=&not-ip=10.0.0.0/8", ""),
    ],
)
def test_a_page_says_what_of_its_url_means_nothing(board: Board, url: str, told: str) -> None:
    """Nobody takes all alerts for those of a state that is misspelt."""
    page = asyncio.run(ask(board, url)).text

    assert ('class="unread"' in page) == bool(told)
    assert told in page


SHOWN_BY = {
    "overview": "activity",
    "exchange": "activity",
    "sharepoint": "sharing",
    "alerts": "queue",
    "investigate": "compare?user=nobody",
    "trail": "deeds",
}


def test_what_is_shown_in_several_ways_says_in_which() -> None:
    """Of each page that takes `by`, the test below asks the panel that has it."""
    assert SHOWN_BY.keys() == {one.name for one in PAGES if "by" in one.choices}


@guarantee(45)
@pytest.mark.parametrize("name", SHOWN_BY)
def test_a_way_to_show_a_panel_is_one_that_it_offers(board: Board, name: str) -> None:
    """What a page takes for `by` is what stands on it; a file or a program with another one is refused."""
    ways = [*next(one for one in PAGES if one.name == name).choices["by"]]
    panel = f"{name}/{SHOWN_BY[name].partition('?')[0]}"
    refused = [f"/export/{panel}.csv?by=zz", f"/api/v1/{panel}?by=zz", f"/api/v1/export/{panel}?by=zz"]

    text = asyncio.run(ask(board, f"/panel/{name}/{SHOWN_BY[name]}")).text

    offered = set(re.findall(rf'href="/{name}\?(?:[^"]*[&;])?by=([a-z-]+)', text))
    assert offered | {ways[0]} == set(ways)
    assert [asyncio.run(ask(board, url)).status for url in refused] == [400, 400, 400]


def test_how_a_panel_is_shown_goes_to_no_other_page(board: Board) -> None:
    """The navigation leads from the third part of one table to the first of another."""
    for page in PAGES:
        assert UNDER.get(page.name, "") == page.under
    text = asyncio.run(ask(board, "/trail?by=exports&sheet=3&user=ann")).text
    ways = [urlsplit(unescape(one)) for one in re.findall(r'href="(/[a-z-]+\?[^"]*)"', text)]
    kept = {one.path for one in ways if "sheet=3" in one.query or "by=exports" in one.query}

    assert kept == {"/trail"}
    assert {one.path for one in ways if "user=ann" in one.query} >= {"/alerts", "/overview"}


@pytest.mark.parametrize("name", ["\u202eexe.fdp", "ann\u200b@contoso.example", " ann", "a\tb", "a\x00b"])
def test_a_name_that_hides_a_character_is_nobody_elses(name: str) -> None:
    """A click on it leads to that person, not to whoever is called the same without it."""
    view = view_of(urlencode({"user": name}))

    assert view.narrowing.of("user") == (name,)
    assert view_of(urlsplit(view.url("/overview")).query).narrowing.of("user") == (name,)


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (112, 100, "12 % more than before"),
        (88, 100, "12 % fewer than before"),
        (100, 100, "as many as before"),
        (3_570, 10, "357 times as many as before"),
        (7, 0, "none before"),
        (0, 0, "and none before"),
    ],
)
def test_a_figure_is_held_against_the_one_before(now: int, before: int, words: str) -> None:
    """In words that need no second look."""
    assert change_words(now, before) == words


@given(QUERIES)
def test_a_span_has_few_steps_and_full_hours(asked: dict[str, str]) -> None:
    """A chart has a bounded number of steps; what is longer than some hours can be served by rollups."""
    span = view_of(urlencode(asked), now=NOW).range

    assert 0 < span.span_s / span.step_s <= POINTS_MAX + 1
    assert span.has_full_hours or span.span_s <= 6 * HOUR_S + 120


def test_urls_of_one_view_are_not_those_of_another() -> None:
    """What a view remembers of itself is its own, and another value of an option is another URL."""
    view = view_of("range=30d&user=ann%40x&text=a")
    asked = "/x?range=30d&user=ann%40x"

    assert [view.url("/x"), view.url("/x")] == [f"{asked}&text=a"] * 2
    assert [view.url("/x", text=one) for one in ("b", "c", "")] == [
        f"{asked}&text=b",
        f"{asked}&text=c",
        asked,
    ]
    assert replace(view, options=()).url("/x") == asked
    assert [view.narrowed_url("/x", "user", one) for one in ("bob", "eve", "bob")] == [
        f"/x?range=30d&user={one}&text=a" for one in ("bob", "eve", "bob")
    ]


def test_a_narrowing_is_taken_out_again() -> None:
    """Narrowing to a value and taking it out leads back."""
    view = view_of("workload=Exchange", now=NOW)

    narrowed = view_of(urlsplit(view.narrowed_url("/overview", "user", "Ann@Contoso.example")).query, now=NOW)

    assert narrowed.narrowing.of("user") == ("ann@contoso.example",)
    assert narrowed.widened_url("/overview", "user", "ann@contoso.example") == view.url("/overview")


def test_what_must_not_be_there_adds_up() -> None:
    """Each value that is left out stays left out when another one is; one of several is taken out again."""
    view = view_of("not-user=ann%40x", now=NOW)

    both = view_of(urlsplit(view.narrowed_url("/overview", "not-user", "bob@x")).query, now=NOW)

    assert both.narrowing.of("not-user") == ("ann@x", "bob@x")
    assert both.widened_url("/overview", "not-user", "bob@x") == view.url("/overview")


def test_values_are_bounded() -> None:
    """A URL of a thousand values is cut, not refused."""
    view = view_of("&".join(f"user=u{number}" for number in range(1000)), now=NOW)

    assert len(view.narrowing.of("user")) == VALUES_MAX


@guarantee(43)
@pytest.mark.parametrize(
    ("tenants", "asked", "seen"),
    [
        (None, "", None),
        (None, "tenant=B", ("b",)),
        ({"a"}, "", ("a",)),
        ({"a"}, "tenant=b", ()),
        ({"a", "b"}, "tenant=B&tenant=c", ("b",)),
        (set[str](), "", ()),
    ],
)
def test_a_scope_is_never_widened(tenants: set[str] | None, asked: str, seen: tuple[str, ...] | None) -> None:
    """What a URL asks for narrows what a role may see, and adds nothing to it."""
    access = Access("ann", Role.VIEWER, None if tenants is None else frozenset(tenants))

    assert view_of(asked, access, now=NOW).tenants == seen


def test_a_time_of_ones_own_can_be_typed(board: Board) -> None:
    """The menu has both ends of the time that is shown, keeps the filters, and leads to what was typed."""
    page = asyncio.run(ask(board, "/exchange?user=ann@contoso.example&range=24h")).text
    form = page.partition('<form class="between"')[2].partition("</form>")[0]
    typed = view_of("from=2026-11-24T09:00&to=2026-11-24T10:30", now=NOW)

    assert 'action="/exchange"' in f"<form{form}"
    assert '<input type="hidden" name="user" value="ann@contoso.example">' in form
    assert 'name="range"' not in form
    assert form.count('type="datetime-local"') == 2
    assert typed.range.words == "24 Nov 2026 09:00 to 24 Nov 2026 10:30"
    assert typed.range.ends == ("2026-11-24T09:00", "2026-11-24T10:30")


@pytest.mark.parametrize("name", ["mailbox", "site", "session", "text"])
def test_an_investigation_can_be_asked_for(board: Board, name: str) -> None:
    """What no column has by itself stands among what the view is narrowed by, and leads to Investigate."""
    page = asyncio.run(ask(board, "/overview")).text
    answer = asyncio.run(ask(board, f"/narrow?page=overview&dimension={name}&value=abc"))

    assert f'<option value="{name}">' in page
    assert answer.headers["location"] == f"/investigate?{name}=abc"
