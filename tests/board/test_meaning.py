"""The filter bar takes what is displayed, and a filter that leaves nothing says why."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest

from asking import ask, view_of
from m365watch.board.app.application import Board
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import is_one_of
from m365watch.board.query.filter_values import meant
from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql import activity_queries as activity
from m365watch.board.widgets.empty_states import good_news, no_records
from m365watch.board.widgets.labels import (
    brief,
    brief_entities,
    dlp_words,
    named_so,
    operation_words,
    right_words,
    system_words,
)

PEOPLE = Query(
    "SELECT user_id, CAST(sum(n) AS BIGINT) AS number FROM facts WHERE contains(user_id, '@') GROUP BY ALL"
    " ORDER BY number DESC, 1",
)

BUSIEST = Query(
    "SELECT client_ip FROM facts WHERE contains(client_ip, '.') GROUP BY ALL"
    " ORDER BY CAST(sum(n) AS BIGINT) DESC, 1 LIMIT 1",
)


def number_of(sources: Sources, query: str) -> int:
    [(total,)] = asyncio.run(sources.ask(view_of(f"range=30d&{query}"), activity.TOTAL))
    return int(total)


def typed_as(sources: Sources, name: str, typed: str) -> str:
    return asyncio.run(meant(view_of("range=30d"), sources, name, typed))


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("workload", "Entra ID", "AzureActiveDirectory"),
        ("workload", "exchange", "Exchange"),
        ("type", "Entra sign-ins", "15"),
        ("usertype", "Regular", "0"),
        ("app", "exchange online", "00000002-0000-0ff1-ce00-000000000000"),
        ("operation", "mailitemsaccessed", "MailItemsAccessed"),
        ("result", "Success", "ok"),
        ("user", "aar*", "aar*"),
        ("ip", "203.0.113.0/24", "203.0.113.0/24"),
        ("operation", "no such thing", "no such thing"),
    ],
)
def test_what_is_displayed_can_be_typed(sources: Sources, name: str, typed: str, value: str) -> None:
    """Labels and any case lead to the value that records have."""
    assert typed_as(sources, name, typed) == value


def test_a_part_of_a_name_finds_whoever_has_it(sources: Sources) -> None:
    """The one person whose name it is, or all whose names begin so."""
    rows = asyncio.run(sources.ask(view_of("range=30d"), PEOPLE))
    person = rows[0][0]
    expected = sum(count for name, count in rows if name.startswith(person[:3]))

    assert typed_as(sources, "user", person.upper()) == person
    assert number_of(sources, f"user={person[:3]}*") >= expected > 0


def test_the_filter_bar_leads_to_what_was_meant(board: Board) -> None:
    """The URL, which others may be sent, has the value itself."""
    answer = asyncio.run(ask(board, "/narrow?page=overview&dimension=workload&value=Entra+ID"))

    assert parse_qs(urlsplit(answer.headers["location"]).query) == {"workload": ["AzureActiveDirectory"]}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/health?user=ann", "not on this page"),
        ("/overview?user=ann", ""),
        ("/alerts?session=abc", "on Investigate and Search alone"),
        ("/investigate?session=abc", ""),
        ("/search?text=abc", ""),
        ("/sql?tenant=abc", ""),
        ("/trail?not-user=ann", "not on this page"),
    ],
)
def test_a_filter_says_where_it_does_not_hold(board: Board, url: str, said: str) -> None:
    """It stays in the URL for the other pages, and nobody takes the figures for narrowed ones."""
    page = asyncio.run(ask(board, url)).text

    chips = page[page.index('aria-label="Filters"') : page.index("</header>")]
    assert ("idle" in chips) == bool(said)
    assert said in chips


def test_stars_and_networks_narrow_and_are_left_out(sources: Sources) -> None:
    """In every panel, as in a search; what they leave out is the rest."""
    every = number_of(sources, "")
    [(person, _), *_] = asyncio.run(sources.ask(view_of("range=30d"), PEOPLE))
    [(address,)] = asyncio.run(sources.ask(view_of("range=30d"), BUSIEST))
    for wide in (f"user={person[:3]}*", f"ip={address}/24", "operation=*login*"):
        inside, outside = number_of(sources, wide), number_of(sources, f"not-{wide}")
        assert 0 < inside < every
        assert inside + outside == every
    assert number_of(sources, "user=100%25*") == 0


@pytest.mark.parametrize(
    ("name", "value", "given", "expected"),
    [
        ("user", "ann*", "Annika@contoso.example", True),
        ("user", "ann", "annika@contoso.example", False),
        ("user", "a.n*", "axnn", False),
        ("ip", "203.0.113.0/24", "203.0.113.7", True),
        ("ip", "203.0.113.0/24", "no address", False),
        ("ip", "2001:db8::/32", "2001:db8::1", True),
    ],
)
def test_alerts_are_narrowed_alike(name: str, value: str, given: str, expected: bool) -> None:
    """What an alert is about is compared as records are."""
    assert is_one_of(name, [value], given) == expected


def test_without_any_record_nothing_is_good_news(sources: Sources) -> None:
    """Who has nothing to look at does not say that nothing is wrong."""
    good = asyncio.run(good_news(view_of("range=30d"), sources, "Nothing is wrong."))
    nothing = asyncio.run(good_news(view_of("from=2020-01-01&to=2020-02-01"), sources, "Nothing is wrong."))

    assert good.why == "Nothing is wrong."
    assert nothing.why == "There are no records in this time."


@pytest.mark.parametrize("value", ["999.9.9.9", "10.0.0"])
def test_what_is_no_address_is_told(sources: Sources, value: str) -> None:
    """A slip is not taken for an address that did nothing."""
    none = asyncio.run(no_records(view_of(f"range=30d&ip={value}"), sources))

    assert none.why == f"{value} is neither an address nor a network."


def test_a_filter_that_leaves_nothing_says_why(sources: Sources) -> None:
    """Which of them it is, and how else it may be written."""
    alone = asyncio.run(no_records(view_of("range=30d&workload=Exchange&user=nobody"), sources))
    together = asyncio.run(
        no_records(view_of("range=30d&workload=Exchange&operation=UserLoggedIn"), sources, of="changes")
    )

    assert alone.why == "No record of this time has the user nobody."
    assert "*" in alone.then
    assert together.why == "No changes of this time fulfil all filters together."


def test_what_nobody_calls_so_is_said_in_words() -> None:
    """Names of programs and rights as people know them; what is not known stays as it is."""
    assert [operation_words(one) for one in ("TIUrlClickData", "Add user.")] == ["Link clicked", "Add user"]
    assert [system_words(one) for one in ("Windows10", "Ios", "Haiku")] == ["Windows 10", "iOS", "Haiku"]
    assert [right_words(one) for one in ("System.LimitedEdit", "Edit")] == ["Limited edit", "Edit"]
    assert dlp_words("NotifyUser, Other,") == "user told, Other"
    assert named_so("operation", "link clicked", whole=True) == ["TIUrlClickData"]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (
            "https://a-my.sharepoint.com/personal/ann_a/Documents/x/Budget v2.xlsx",
            "Budget v2.xlsx · personal/ann_a",
        ),
        ("https://a.sharepoint.com/sites/Tender/", "sites/Tender"),
        ("https://a.sharepoint.com/sites/Tender/Lists", "Lists · sites/Tender"),
        ("https://a.sharepoint.com.evil.example/sites/Tender/Budget.xlsx", None),
        ("https://evil.example/sites/Tender/Budget.xlsx", None),
        ("https://evil.example/.sharepoint.com/sites/Tender/Budget.xlsx", None),
        ("Budget.xlsx", None),
    ],
)
def test_an_address_is_told_by_its_end_in_sharepoint_alone(address: str, shown: str | None) -> None:
    """Of any other address the host is what matters."""
    assert brief(address) == (shown or address)


_FOREST = "EURX01A004.PROD.OUTLOOK.COM/Microsoft Exchange Hosted Organizations/contoso.example"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"{_FOREST}/ann\\Copies to me", "Copies to me · ann"),
        (f"{_FOREST}/ann\\a\\b/c", "a\\b/c · ann"),
        (f"{_FOREST}/Discovery Search", "Discovery Search"),
        ("contoso.example/Users/ann", None),
    ],
)
def test_an_object_of_exchange_is_told_by_its_own_name(path: str, shown: str | None) -> None:
    """Sixty characters of the forest came first, and an inbox rule was cut before its name."""
    assert brief(path) == (shown or path)


def test_people_of_one_domain_are_told_apart_without_it() -> None:
    """Who is from elsewhere keeps what says so."""
    named = [("user", "ann@a.example"), ("actor", "bob@a.example"), ("recipient", "eve@b.example")]

    assert brief_entities(named) == ["ann", "bob", "eve@b.example"]
    assert brief_entities([("user", "ann@a.example"), ("actor", "eve@b.example")]) == [
        "ann@a.example",
        "eve@b.example",
    ]
    assert brief_entities([("user", "one"), ("user", "two"), ("app", "x@y")]) == ["one", "two", "x@y"]
