"""What `audit` and `gaps` show a person, at 80 columns."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from rich.console import Console, RenderableType

from m365watch.cli.feeds.audit_view import audit_page, error_lines, is_unlisted
from m365watch.cli.feeds.gaps_view import gaps_page
from m365watch.common.model import ContentType, Feed, TenantId, Window
from m365watch.health.completeness.content_gaps import Gap, GapsFound
from m365watch.health.completeness.feed_audit import Counts, FeedAudit

FEED = Feed(TenantId("22222222-2222-2222-2222-222222222222"), ContentType.AZURE_ACTIVE_DIRECTORY)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def shown(page: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False)
    console.print(page, crop=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


AUDIT = FeedAudit(
    FEED,
    NOW,
    Window(NOW - 168 * HOUR, NOW),
    {
        NOW - 30 * HOUR: Counts(listed=123_456, delivered=123_456),
        NOW - HOUR: Counts(listed=12, delivered=6, waiting=1, quarantined=2, lost=1, missing=2),
    },
    remaining=2,
)


def test_an_audit_fits_on_a_terminal() -> None:
    """A line a day and the sum, the hours with something amiss by name, the verdict."""
    lines = shown(audit_page([AUDIT], {}, repair=False, columns=80))

    assert max(map(len, lines)) <= 80
    table = [line.split() for line in lines]
    assert ["all", "123,468", "123,462", "1", "2", "1", "2"] in table
    amiss = "AzureActiveDirectory 11-24 11h: 2 missing, 1 lost, 2 quarantined, 1 waiting of 12 blobs"
    assert amiss in " ".join(line.strip() for line in lines)
    assert "--repair has what is missing fetched" in " ".join(lines)
    assert "123,468 blobs listed now: 123,462 delivered" in " ".join(lines)


def test_the_verdict_is_not_cut_between_a_figure_and_its_word() -> None:
    """What needs more than one line is broken where a clause ends."""
    assert shown(audit_page([AUDIT], {}, repair=False, columns=80))[-3:] == [
        "since 2026-11-17 12:00:00Z: 123,468 blobs listed now:",
        "123,462 delivered, 1 waiting, 2 quarantined, 1 lost, 2 missing;",
        "--repair has what is missing fetched",
    ]
    assert shown(audit_page([AUDIT], {}, repair=False, columns=200))[-2].startswith("since ")


def test_one_cause_that_many_feeds_meet_is_told_once() -> None:
    """Whatever window or call each met it in; where nothing was listed at all there is no result."""
    feeds = [Feed(FEED.tenant_id, kind) for kind in (ContentType.EXCHANGE, ContentType.DLP)]
    where = [f"{FEED.tenant_id}/token", f"{feeds[1]} {AUDIT.span}"]
    audits = [
        FeedAudit(feed, NOW, AUDIT.span, error=f"{place}: no connection (refused)")
        for feed, place in zip(feeds, where, strict=True)
    ]

    assert [line.plain for line in error_lines(audits)] == [
        "error: Exchange, DLP: no connection (refused)",
        "hint: `m365watch why` looks at every step on the way: network, proxy, TLS, token",
    ]
    assert is_unlisted(audits)
    assert not is_unlisted([*audits, AUDIT])


def test_an_audit_tells_what_is_newer_than_the_last_listing() -> None:
    """In a column of its own and in the verdict; an hour with nothing else is not amiss."""
    audit = replace(AUDIT, hours={NOW - HOUR: Counts(listed=3, delivered=2, newer=1)}, remaining=0)
    lines = shown(audit_page([audit], {}, repair=False, columns=80))

    assert max(map(len, lines)) <= 80
    assert lines[1].split()[-2:] == ["missing", "newer"]
    assert ["all", "3", "2", "0", "0", "0", "0", "1"] in [line.split() for line in lines]
    verdict = "0 missing; 1 newer than the last listing: the next poll fetches them"
    assert verdict in " ".join(line.strip() for line in lines)
    assert "11h" not in " ".join(lines)


def test_an_audit_says_what_a_repair_did_and_what_stood_in_the_way() -> None:
    """With the cure of an error below it."""
    page = " ".join(
        shown(
            audit_page(
                [replace(AUDIT, repaired=1, remaining=1, error="HTTP 503")], {}, repair=True, columns=80
            )
        )
    )

    assert "1 of them repaired, 1 remain" in page
    said = "error: AzureActiveDirectory: HTTP 503 hint: nothing to do but to audit again: it may pass"
    assert said in page


def test_gaps_fit_on_a_terminal() -> None:
    """Three lines for each, what is still learned, and the count of what is unusual."""
    gap = Gap(
        FEED, NOW - 8 * HOUR, NOW, "alone", is_unusual=True, usual_blobs=40.4, chance=1e-6, text="look there"
    )
    lines = shown(gaps_page(GapsFound((gap,), {FEED: 0.25}, NOW)))

    assert lines == [
        f"alone  {FEED}",
        "  2026-11-24 04:00:00Z to 2026-11-24 12:00:00Z, 8.0 h; usually 40 blobs",
        "  look there",
        "still learning, with so much of the week known: AzureActiveDirectory 25%",
        "1 unusual gap; judged up to 2026-11-24 12:00:00Z",
    ]
