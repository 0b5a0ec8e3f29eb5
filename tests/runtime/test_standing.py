"""One state a tenant: what it is called, which counts when several things are wrong, and who comes first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from promises import guarantee

from m365watch.common.model import ContentType, Feed, GraphContent, TenantId
from m365watch.common.progress import FeedProgress
from m365watch.health.tenant_status import LATE_S, LedgerSays, TenantStanding, TenantState, judge_tenants
from m365watch.ledger.queries import TriedInVain

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ONE, TWO = (TenantId(f"{number}1111111-1111-1111-1111-111111111111") for number in (1, 2))
EXCHANGE, SHAREPOINT = Feed(ONE, ContentType.EXCHANGE), Feed(ONE, ContentType.SHAREPOINT)
OTHER = Feed(TWO, ContentType.EXCHANGE)
BOTH = {EXCHANGE: "office365", SHAREPOINT: "office365"}


def listed(feed: Feed = EXCHANGE, *, lag_s: float = 60.0, **figures: object) -> FeedProgress:
    return FeedProgress(feed, watermark=NOW - timedelta(seconds=lag_s), **figures)  # type: ignore[arg-type]


def failed(code: str | None, *, fix: str | None = None) -> FeedProgress:
    then = f"; {fix}" if fix else "; tried again, nothing lost"
    return listed(
        last_error=f"{EXCHANGE}: it went wrong{then}", error_code=code, fix=fix, needs_operator=bool(fix)
    )


def only(says: LedgerSays) -> TenantStanding:
    [standing] = judge_tenants({EXCHANGE: "office365"}, says, now=NOW)
    return standing


@guarantee(32)
@pytest.mark.parametrize(
    ("row", "state"),
    [
        (failed("consent_missing", fix="consent"), TenantState.NO_CONSENT),
        (failed("permission_missing", fix="grant it"), TenantState.NO_CONSENT),
        (failed("credentials_refused", fix="renew it"), TenantState.REFUSED),
        (failed("access_refused", fix="turn it on"), TenantState.REFUSED),
        (failed("defect", fix="report it"), TenantState.IN_TROUBLE),
        (failed(None, fix="of a ledger that kept no codes"), TenantState.IN_TROUBLE),
        (failed("throttled"), TenantState.THROTTLED),
        (failed("unavailable"), TenantState.FAILING),
        (replace(failed("unreachable", fix="open port 443"), needs_operator=False), TenantState.FAILING),
        (failed(None), TenantState.FAILING),
        (FeedProgress(EXCHANGE), TenantState.NEW),
        (listed(lag_s=LATE_S + 1), TenantState.BEHIND),
        (listed(lag_s=LATE_S), TenantState.RUNNING),
    ],
)
def test_a_feed_says_what_its_tenant_is_in(row: FeedProgress, state: TenantState) -> None:
    """By the kind of its error, which the ledger keeps, and never by its words."""
    assert only(LedgerSays([row])).state is state


def test_service_health_without_its_permission_does_not_make_a_tenant_look_without_consent() -> None:
    """Its audit records arrive, and how late they are is still to be seen."""
    health = Feed(ONE, GraphContent.SERVICE_HEALTH)
    wants = FeedProgress(
        health,
        last_error=f"{health}: it is missing; grant it",
        error_code="permission_missing",
        fix="grant it",
        needs_operator=True,
    )
    inputs = {EXCHANGE: "office365", health: "office365"}

    [standing] = judge_tenants(inputs, LedgerSays([listed(lag_s=90.0), wants]), now=NOW)
    [alone] = judge_tenants({health: "office365"}, LedgerSays([wants]), now=NOW)
    [revoked] = judge_tenants(inputs, LedgerSays([failed("consent_missing", fix="consent"), wants]), now=NOW)

    assert (standing.state, standing.lag_s, standing.fix) == (TenantState.IN_TROUBLE, 90.0, "grant it")
    assert (alone.state, alone.lag_s) == (TenantState.IN_TROUBLE, None)
    assert revoked.state is TenantState.NO_CONSENT


def test_blobs_that_fail_make_a_tenant_poisoned_and_silence_a_silent_one() -> None:
    """Both with the words for it; an error of the feed itself counts for more."""
    tried = {EXCHANGE: TriedInVain(2, "HTTP 500")}
    silent = {EXCHANGE: NOW - timedelta(hours=6)}

    poisoned = only(LedgerSays([listed()], tried, silent))
    quiet = only(LedgerSays([listed()], silent_since=silent))

    assert (poisoned.state, poisoned.error) == (
        TenantState.POISONED,
        "2 blobs wait after failed tries: HTTP 500",
    )
    assert (quiet.state, quiet.error) == (
        TenantState.SILENT,
        "Audit.Exchange has had no content since 2026-11-24 06:00Z",
    )
    assert only(LedgerSays([failed("throttled")], tried, silent)).state is TenantState.THROTTLED


def test_the_worst_feed_speaks_for_its_tenant() -> None:
    """Its error and its cure, without the names that stand beside them; the lag is that of the last."""
    rows = [listed(SHAREPOINT, lag_s=300.0), failed("consent_missing", fix="consent again")]

    [standing] = judge_tenants(BOTH, LedgerSays(rows), now=NOW)

    assert (standing.error, standing.fix) == ("it went wrong", "consent again")
    assert standing.lag_s == 300.0
    assert standing.states == {EXCHANGE: TenantState.NO_CONSENT, SHAREPOINT: TenantState.RUNNING}


def test_a_feed_that_was_never_listed_leaves_the_lag_open() -> None:
    """No lag is better than that of the others."""
    [standing] = judge_tenants(BOTH, LedgerSays([listed()]), now=NOW)

    assert (standing.state, standing.lag_s) == (TenantState.NEW, None)


@guarantee(32)
def test_the_worst_tenant_comes_first_and_of_two_alike_the_one_further_behind() -> None:
    """So that the first lines are worth reading."""
    inputs = dict.fromkeys((EXCHANGE, OTHER), "office365")
    behind = [listed(), listed(OTHER, lag_s=90.0)]
    failing = [listed(lag_s=5000.0), listed(OTHER, last_error="x", error_code="throttled")]

    assert [one.tenant_id for one in judge_tenants(inputs, LedgerSays(behind), now=NOW)] == [TWO, ONE]
    assert [one.tenant_id for one in judge_tenants(inputs, LedgerSays(failing), now=NOW)] == [TWO, ONE]


def test_a_tenant_that_the_configuration_no_longer_names_is_stopped() -> None:
    """Whatever it last met: nothing of it is tried any more; a service that is switched off is no tenant."""
    gone = listed(OTHER, last_error="x", error_code="throttled", records_delivered=7)

    first, last = judge_tenants({EXCHANGE: "a"}, LedgerSays([listed(), listed(SHAREPOINT), gone]), now=NOW)

    assert (first.state, [row.feed for row in first.feeds]) == (TenantState.RUNNING, [EXCHANGE])
    assert (last.tenant_id, last.state, last.error, last.inputs) == (TWO, TenantState.STOPPED, None, ())
