"""Alert definitions at Devo: made once, brought up to date, read back, taken away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest
from promises import guarantee

from devo_stand_in import PATH, TOKEN, DevoStandIn
from m365watch.common.errors import AlertsRefused, BadAnswer, Throttled, Unavailable
from m365watch.common.secret import Secret
from m365watch.detection.export.devo_alert_definitions import Definition, Each, Low
from m365watch.health.devo_alerts import DevoAlerts, Outcome
from m365watch.http.client import open_session
from m365watch_testing.loopback import LoopbackServer, Received, Reply

T = TypeVar("T")
DEFINITION = Definition(
    name="watch: silent",
    headline="$collector_name is silent",
    description="Look at it.",
    query='from devo.collectors.out where collector_name = "west"',
    trigger=Low(timedelta(hours=1)),
    priority=5,
)


def ask(
    answer: Callable[[Received], Reply], call: Callable[[DevoAlerts], Awaitable[T]], token: str = TOKEN
) -> tuple[T, list[Received]]:
    """What came of the call, and the requests."""

    async def main() -> tuple[T, list[Received]]:
        async with LoopbackServer(answer) as server, open_session() as session:
            devo = DevoAlerts(session, root=f"{server.url}/alerts", token=Secret(token))
            return await call(devo), server.received

    return asyncio.run(main())


def test_a_new_definition_is_made_and_read_back() -> None:
    """One POST between two looks, with what Devo documents."""
    devo = DevoStandIn()

    outcome, asked = ask(devo, lambda one: one.install(DEFINITION))

    assert outcome is Outcome.CREATED
    assert [one.method for one in asked] == ["GET", "POST", "GET"]
    (kept,) = devo.kept.values()
    assert kept["alertCorrelationContext"] == {
        "querySourceCode": DEFINITION.query,
        "priority": 5,
        "correlationTrigger": {"kind": "low", "period": 3_600_000, "threshold": 0},
    }


def test_what_is_there_already_is_left_alone() -> None:
    """So that a command may be run again."""
    devo = DevoStandIn()
    ask(devo, lambda one: one.install(DEFINITION))

    outcome, asked = ask(devo, lambda one: one.install(DEFINITION))

    assert outcome is Outcome.UNCHANGED
    assert [one.method for one in asked] == ["GET"]


def test_numbers_that_come_back_as_text_are_no_change() -> None:
    """Devo answers with quoted numbers in places."""
    devo = DevoStandIn()
    ask(devo, lambda one: one.install(DEFINITION))
    (kept,) = devo.kept.values()
    kept["alertCorrelationContext"]["priority"] = "5"

    assert ask(devo, lambda one: one.install(DEFINITION))[0] is Outcome.UNCHANGED


@pytest.mark.parametrize(
    "other",
    [
        replace(DEFINITION, query="from devo.collectors.out"),
        replace(DEFINITION, trigger=Each()),
        replace(DEFINITION, trigger=Low(timedelta(hours=2))),
        replace(DEFINITION, headline="other"),
        replace(DEFINITION, description="other"),
        replace(DEFINITION, priority=1),
    ],
)
def test_another_definition_of_that_name_is_brought_up_to_date(other: Definition) -> None:
    """Under its number, so that its policy and its past alerts stay."""
    devo = DevoStandIn()
    ask(devo, lambda one: one.install(other))
    (number,) = devo.kept

    outcome, asked = ask(devo, lambda one: one.install(DEFINITION))

    assert outcome is Outcome.UPDATED
    assert [one.method for one in asked] == ["GET", "PUT", "GET"]
    assert not DEFINITION.difference(devo.kept[number])


@guarantee(30)
def test_a_name_that_only_contains_it_is_another_alert() -> None:
    """Devo's filter finds parts of names, in any case."""
    devo = DevoStandIn()
    ask(devo, lambda one: one.install(replace(DEFINITION, name="old WATCH: silent too")))

    assert ask(devo, lambda one: one.install(DEFINITION))[0] is Outcome.CREATED
    assert len(devo.kept) == 2


@pytest.mark.parametrize("devo", [DevoStandIn(forgets=True), DevoStandIn(spoils=True)])
def test_an_alert_that_devo_does_not_keep_as_asked_is_told(devo: DevoStandIn) -> None:
    """A 200 alone is no proof."""
    with pytest.raises(AlertsRefused, match="watch: silent"):
        ask(devo, lambda one: one.install(DEFINITION))


def test_a_definition_is_taken_away_by_its_number() -> None:
    """And one that is not there is no error."""
    devo = DevoStandIn()
    ask(devo, lambda one: one.install(DEFINITION))

    assert ask(devo, lambda one: one.remove(DEFINITION.name))[0] is Outcome.REMOVED
    assert devo.kept == {}
    assert ask(devo, lambda one: one.remove(DEFINITION.name))[0] is Outcome.ABSENT


@guarantee(30)
def test_a_refused_token_says_which_one_is_needed_and_does_not_show_it() -> None:
    """Not even where Devo repeats it."""
    with pytest.raises(AlertsRefused, match="type Alert API") as caught:
        ask(DevoStandIn(), lambda one: one.find("x"), token="s3cret-token")

    assert "s3cret-token" not in str(caught.value)
    assert "bad token ***" in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(429), Throttled),
        (Reply(503), Unavailable),
        (Reply(400, b'{"error": "query \x1b[31m wrong"}'), AlertsRefused),
        (Reply(404), AlertsRefused),
        (Reply(302, headers={"Location": "https://elsewhere.example/"}), AlertsRefused),
        (Reply(200, b"<html>"), BadAnswer),
        (Reply(200, b'{"a": 1}'), BadAnswer),
    ],
)
def test_each_other_answer_has_its_meaning(reply: Reply, kind: type[Exception]) -> None:
    """None is followed elsewhere with the token, none brings control characters to a terminal."""
    with pytest.raises(kind) as caught:
        ask(lambda _: reply, lambda one: one.find("x"))

    assert str(caught.value).isprintable()


def test_the_token_goes_in_its_own_header() -> None:
    """As Devo documents it, and in no address."""
    _, asked = ask(DevoStandIn(), lambda one: one.find("a b&c"))

    assert asked[0].target == f"{PATH}?page=0&size=1000&nameFilter=a+b%26c"
    assert asked[0].headers["standAloneToken"] == TOKEN
