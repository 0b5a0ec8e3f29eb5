"""What `m365watch tenants` shows: readable with 500 tenants, at any width, and quick."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import process_time

import pytest
from promises import guarantee
from rich.console import Console
from typer.testing import CliRunner

from m365watch.cli.program import app
from m365watch.cli.tenants.tenants_command import choose_tenants
from m365watch.cli.tenants.tenants_view import GROUPS_SHOWN_MAX, TenantsFound, tenants_page
from m365watch.common.clock import SystemClock
from m365watch.common.errors import ConsentMissing
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.common.progress import FeedProgress
from m365watch.health.tenant_status import LedgerSays, TenantStanding, TenantState, judge_tenants
from m365watch.ledger.sqlite_ledger import SqliteLedger

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECONDS_MAX = 3.0
"""Of CPU, for 500 tenants with five feeds each, from the file to the page."""


def tenant(number: int) -> TenantId:
    return TenantId(f"{number:08x}-1111-1111-1111-111111111111")


def feed(number: int) -> Feed:
    return Feed(tenant(number), ContentType.EXCHANGE)


def row(number: int, **figures: object) -> FeedProgress:
    usual: dict[str, object] = {"watermark": NOW - timedelta(minutes=3), "records_delivered": 1_000}
    return FeedProgress(feed(number), **(usual | figures))  # type: ignore[arg-type]


def refused(number: int, error: str = "AADSTS700016: not found", fix: str = "consent again") -> FeedProgress:
    told = f"{tenant(number)}/token: {error}; {fix}"
    return row(
        number,
        last_error=told,
        last_error_at=NOW - timedelta(minutes=4),
        fix=fix,
        needs_operator=True,
        error_code=ConsentMissing.code,
    )


def standings(*rows: FeedProgress) -> list[TenantStanding]:
    return judge_tenants({one.feed: "customers" for one in rows}, LedgerSays(rows), now=NOW)


def drawn(every: list[TenantStanding], *, columns: int = 80, holder: str | None = "pid 7") -> list[str]:
    console = Console(width=columns, highlight=False, markup=False, color_system=None)
    found = TenantsFound(every, every, NOW, holder, None, "--config m365.yaml")
    with console.capture() as capture:
        console.print(tenants_page(found, columns=columns), crop=False)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_page_is_this_one() -> None:
    """Pinned, so that a change of its looks is a decision."""
    every = standings(row(1), refused(2), row(3, blobs_waiting=12, watermark=NOW - timedelta(hours=2)))

    assert drawn(every) == [
        "tenant                               state        lag records waiting input",
        "00000002-1111-1111-1111-111111111111 no consent 3 min   1,000       0 customers",
        "00000003-1111-1111-1111-111111111111 behind     2.0 h   1,000      12 customers",
        "00000001-1111-1111-1111-111111111111 running    3 min   1,000       0 customers",
        "",
        "no consent: 00000002-1111-1111-1111-111111111111: AADSTS700016: not found (4 min",
        "ago)",
        "hint: consent again",
        "",
        "3 tenants: 1 no consent, 1 behind, 1 running; 3,000 records, 12 blobs waiting;",
        "lag 3 min in the middle, 2.0 h at most",
    ]


def test_what_is_wrong_stands_in_its_line_where_there_is_room() -> None:
    """Cut at the end of the line; whole below the table."""
    lines = drawn(standings(refused(1, "AADSTS700016: " + "word " * 60), row(2)), columns=140)

    assert "AADSTS700016: word" in lines[1]
    assert max(map(len, lines[:3])) <= 140


def test_a_tenant_that_was_taken_out_says_so() -> None:
    """Its records stay counted, and nobody has to guess why it is listed."""
    line = drawn(judge_tenants({}, LedgerSays([row(1)]), now=NOW), columns=140)[1]

    assert "stopped" in line
    assert line.endswith("no longer in the configuration")


@pytest.mark.parametrize("columns", [80, 92, 100, 118, 140, 200, 300])
def test_a_long_error_takes_no_room_from_the_figures(columns: int) -> None:
    error = "AADSTS7000215: the client secret is wrong " + "word " * 100

    head, first, second, *_ = drawn(standings(refused(1, error), row(2)), columns=columns)

    assert head.startswith("tenant                               state        lag records waiting input")
    assert first.startswith(f"{tenant(1)} no consent 3 min   1,000       0 customers")
    assert second.startswith(f"{tenant(2)} running    3 min   1,000       0 customers")
    assert ("AADSTS7000215" in first) == ("what" in head) == (columns >= 118)


def test_a_narrow_terminal_gets_fewer_columns_and_each_of_them_whole() -> None:
    """At 60 columns; what waits is in the sums, too."""
    head, first, *_ = drawn(standings(row(1)), columns=60)

    assert head.split() == ["tenant", "state", "lag", "records"]
    assert len(first.split()) >= 4
    assert "\N{HORIZONTAL ELLIPSIS}" not in head + first


def test_who_asks_for_no_tenant_that_there_is_is_told() -> None:
    """A mistyped id would else look like a collector without any."""
    every = standings(row(1))
    found = TenantsFound(every, [], NOW, "pid 7", None, "")
    console = Console(width=80, highlight=False, markup=False, color_system=None)
    with console.capture() as capture:
        console.print(tenants_page(found, columns=80))

    assert capture.get().startswith("no tenant is as asked for\n1 tenant")


@pytest.mark.parametrize("columns", [80, 100, 118, 200])
def test_no_line_of_the_table_is_wider_than_the_terminal(columns: int) -> None:
    """Also with figures of years, and a long name of an input."""
    rows = [row(number, records_delivered=9_999_999_999, blobs_waiting=9_999_999) for number in range(3)]
    every = judge_tenants(
        {one.feed: "a-very-long-name-of-an-input" for one in rows}, LedgerSays(rows), now=NOW
    )

    lines = drawn(every, columns=columns)

    assert max(map(len, lines[: lines.index("")])) <= columns


def test_tenants_in_the_same_trouble_are_told_once() -> None:
    """With whom it concerns, as far as there is room; and of many kinds only the worst."""
    alike = drawn(standings(*(refused(number) for number in range(400))))
    kinds = drawn(standings(*(refused(number, f"AADSTS{number}") for number in range(20))), columns=200)

    assert sum(line.startswith("hint: ") for line in alike) == 1
    assert " and 397 more: AADSTS700016" in " ".join(alike)
    assert sum(line.startswith("hint: ") for line in kinds) == GROUPS_SHOWN_MAX
    assert "and 12 more kinds: `m365watch tenants --config m365.yaml --json`" in kinds


def test_hostile_words_do_not_reach_the_terminal() -> None:
    """An error may quote a server."""
    page = "\n".join(drawn(standings(refused(1, "\x1b[2Jowned")), columns=200))

    assert "\x1b" not in page


def test_a_page_without_a_collector_says_so() -> None:
    """Figures of a collector that died are not taken for those of one that runs."""
    assert "no collector is running: this is how the tenants stood" in drawn(standings(row(1)), holder=None)


def test_tenants_are_chosen_by_state_and_by_a_part_of_their_names() -> None:
    """Of several of a kind one has to fit."""
    every = standings(row(1), refused(2), row(3))
    states = [TenantState.RUNNING, TenantState.NEW]

    assert [one.tenant_id for one in choose_tenants(every, states=states, parts=())] == [tenant(1), tenant(3)]
    assert [one.tenant_id for one in choose_tenants(every, states=(), parts=["00000002"])] == [tenant(2)]
    assert len(choose_tenants(every, states=(), parts=["CUSTOM"])) == 3


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of 500 tenants, with a ledger in which one lost its consent, and another is left."""
    folder = tmp_path_factory.mktemp("many")
    credentials = {
        "tenant_id": [tenant(number) for number in range(500)],
        "client_id": tenant(999),
        "client_secret": "${NOT_THERE}",
    }
    file = folder / "m365.json"
    file.write_text(json.dumps({"inputs": {"office365": {"credentials": credentials}}}))
    ledger = SqliteLedger(folder / "state", outputs=frozenset({"lake"}), now=NOW)
    ledger._connection.execute("PRAGMA synchronous = OFF")
    now = SystemClock().now().replace(microsecond=0)
    for number in range(501):
        for content_type in ContentType:
            one = Feed(tenant(number), content_type)
            ref = BlobRef(one, f"{number}", now, now + timedelta(days=7))
            window = Window(now - timedelta(minutes=5), now)
            ledger.commit_listing(one, window, [ref], complete=True, at=now)
    ledger.note_error(feed(7), ConsentMissing("AADSTS65001", fix="consent again"), at=now)
    [known] = ledger.due_blobs(feed(8), now=now, count_max=1, besides=frozenset())
    ledger.postpone(known.key, attempts=5, next_try_at=now + timedelta(hours=1), error="HTTP 500")
    ledger.remember(f"rhythm {feed(9)}", json.dumps({"silent": int(now.timestamp()) // 3600 - 6}))
    ledger.close()
    return file


@guarantee(32)
def test_500_tenants_are_shown_at_once(many: Path) -> None:
    """From the ledger alone, without the secret; each has its state, and the worst come first."""
    before = process_time()
    result = CliRunner().invoke(app, ["tenants", "--config", str(many)], env={"COLUMNS": "100"})
    took_s = process_time() - before

    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[1] for line in lines[1:4]] == ["no", "poisoned", "silent"]
    assert len(lines[: lines.index("")]) == 502
    assert "501 tenants: 1 no consent, 1 poisoned, 1 silent, 497 running, 1 stopped" in result.stdout
    assert took_s < SECONDS_MAX


def test_the_document_has_what_the_page_has(many: Path) -> None:
    """Sums are those of all tenants, whatever is chosen; the feeds stand under their tenant."""
    options = ["--state", "poisoned", "--state", "no-consent", "--worst", "1", "--json"]
    result = CliRunner().invoke(app, ["tenants", "--config", str(many), *options])

    document = json.loads(result.stdout)
    [one] = document["tenants"]
    assert (document["total"], document["totals"]["states"]["running"]) == (501, 497)
    assert (document["totals"]["blobs_waiting"], document["collector"]) == (2_505, None)
    assert (one["tenant"], one["state"], one["inputs"]) == (tenant(7), "no-consent", ["office365"])
    assert (one["last_error"], one["fix"], len(one["feeds"])) == ("AADSTS65001", "consent again", 5)
    assert one["blobs"]["waiting"] == 5


def test_a_running_collector_is_named(many: Path) -> None:
    """Its ledger is read beside it."""
    ledger = SqliteLedger(many.parent / "state", outputs=frozenset({"lake"}), now=NOW)
    try:
        result = CliRunner().invoke(app, ["tenants", "--config", str(many), "-n", "1", "--json"])
    finally:
        ledger.close()

    assert json.loads(result.stdout)["collector"].startswith("pid ")
