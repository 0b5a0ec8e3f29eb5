"""What each step of a diagnosis is judged by, without a network or a ledger."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from m365watch.auth.permissions import claims_of
from m365watch.common.errors import Unavailable
from m365watch.common.model import ContentType, Feed, Service, TenantId
from m365watch.common.progress import FeedProgress, OutputProgress
from m365watch.config.models.clouds import Cloud
from m365watch.config.models.settings import ServiceSettings, TenantSettings
from m365watch.health.checks import access_checks
from m365watch.health.checks import delivery_checks as collected
from m365watch.health.checks.tenant_checks import Served, judge_served, judge_subscriptions
from m365watch.ledger.queries import Overview
from m365watch.registry.checks import Step, Verdict
from m365watch_testing.credentials import client_secret

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TENANT_ID = TenantId("41463f53-8812-40f4-890f-865bf6e35190")
EXCHANGE = ServiceSettings(Service.EXCHANGE, None, None, 60.0, None, None)
TENANT = TenantSettings(
    input_name="office365",
    input_id="1",
    tenant_id=TENANT_ID,
    client_id="app",
    credentials=(client_secret("secret"),),
    cloud=Cloud("test", "https://login", "https://manage", "https://manage"),
    publisher_id="",
    services=(EXCHANGE,),
    requests_per_minute=None,
    lookback_s=7_200,
)
SERVED = {ContentType.EXCHANGE: Served(3, NOW - timedelta(hours=1))}
FETCHED = Overview(fetched=5, waiting=0, last_error=None, delivered_at=NOW)


def feed(**figures: object) -> FeedProgress:
    usual: dict[str, object] = {"listed_at": NOW, "blobs_delivered": 5, "records_delivered": 50}
    return FeedProgress(Feed(TENANT_ID, ContentType.EXCHANGE), **(usual | figures))  # type: ignore[arg-type]  # figures by name


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("Tue, 24 Nov 2026 12:00:05 GMT", Verdict.OK),
        ("Tue, 24 Nov 2026 12:02:00 GMT", Verdict.NOTE),
        ("Tue, 24 Nov 2026 12:06:00 GMT", Verdict.BROKEN),
        ("Tue, 24 Nov 2026 09:00:00 GMT", Verdict.BROKEN),
        ("Tue, 24 Nov 2026 12:00:00", Verdict.NOTE),
        ("soon", Verdict.NOTE),
        (None, Verdict.NOTE),
    ],
)
def test_a_clock_may_be_off_by_five_minutes(said: str | None, verdict: Verdict) -> None:
    """What cannot be read is no reason to stop."""
    assert access_checks.judge_clock(said, NOW).verdict is verdict


@pytest.mark.parametrize("token", ["", "opaque", "a.b", "a.%%%.c", "a.W10.c", "a.e30=x.c", "a.-.c"])
def test_a_token_that_cannot_be_looked_into_breaks_nothing(token: str) -> None:
    """It belongs to the service, which may take it all the same."""
    findings = access_checks.judge_claims(claims_of(token), TENANT, [EXCHANGE])

    assert Verdict.BROKEN not in {one.verdict for one in findings} or claims_of(token) == {}


def test_claims_are_read_without_padding() -> None:
    """As Entra writes them."""
    for extra in range(4):
        claims = {"tid": TENANT_ID, "x": "y" * extra}
        text = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        assert claims_of(f"h.{text}.s") == claims


def test_hostile_roles_stay_printable_and_short() -> None:
    """They end up on a terminal."""
    finding = access_checks.judge_roles(["\x1b[31m" + "x" * 9_999] * 50, [EXCHANGE])

    assert finding.verdict is Verdict.BROKEN
    assert finding.seen.isprintable()
    assert len(finding.seen) < 1_000


def test_the_cure_of_a_broken_connection_goes_by_its_cause() -> None:
    """Certificates, proxies and firewalls have different owners."""
    causes = {
        "the server's certificate was not accepted (self-signed certificate)": "network.ca_bundle",
        "the server's TLS was not accepted (closed in the handshake)": "network.ca_bundle",
        "the CA bundle /x is not there": "network.ca_bundle",
        "the proxy cannot be reached": "network.proxy, or HTTPS_PROXY",
        "the proxy answered HTTP 407: it wants a user": "network.proxy_username",
        "no connection from 10.0.0.7: no such address": "network.bind_address",
        "no connection (not within 30 s)": "firewall",
        "no answer in time": "firewall",
        "no credential works: credentials.certificate_file: the certificate x expired; "
        "credentials.managed_identity: the managed identity's endpoint: no connection": "machine of Azure's",
    }
    cures = {cause: access_checks.judge_failure(Step.TLS, Unavailable(cause)).fix or "" for cause in causes}

    assert [cause for cause, word in causes.items() if word not in cures[cause]] == []


def test_a_tenant_without_content_is_told_from_one_whose_listing_fails() -> None:
    """The first needs patience or an act, the second its error's cure."""
    quiet = judge_served({ContentType.EXCHANGE: Served()})
    failing = judge_served({ContentType.EXCHANGE: Served(error=Unavailable("HTTP 503"))})

    assert (quiet.verdict, failing.verdict) == (Verdict.BROKEN, Verdict.BROKEN)
    assert "no content in 7 days: Exchange" in quiet.seen
    assert failing.seen == "HTTP 503"


def test_one_quiet_feed_is_no_break() -> None:
    """Many tenants have no DLP."""
    served = SERVED | {ContentType.DLP: Served()}

    assert judge_served(served).verdict is Verdict.NOTE
    assert judge_subscriptions(frozenset(SERVED), list(served), served).verdict is Verdict.NOTE


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (feed(listed_at=None, blobs_delivered=0), "has listed nothing"),
        (feed(listed_at=NOW - timedelta(hours=5)), "last listed 5.0 h ago"),
        (feed(blobs_delivered=0), "0 blobs known"),
    ],
)
def test_a_collector_that_does_not_list_is_found(row: FeedProgress, text: str) -> None:
    """It never did, it stopped, or it knows nothing."""
    finding = collected.judge_listed([row], SERVED, [EXCHANGE], NOW)

    assert finding.verdict is Verdict.BROKEN
    assert text in finding.seen


def test_what_is_known_of_all_services_is_told_in_one_sum() -> None:
    """Not the most that one of them has."""
    other = FeedProgress(Feed(TENANT_ID, ContentType.SHAREPOINT), listed_at=NOW, blobs_delivered=1_200)
    finding = collected.judge_listed([feed(), other], SERVED, [EXCHANGE], NOW)

    assert finding.seen.startswith("1,205 blobs known, last listed ")


def test_what_an_audit_made_known_is_no_broken_listing() -> None:
    """A ledger that knows blobs has no listing of its own yet: its records arrive all the same."""
    finding = collected.judge_listed([feed(listed_at=None)], SERVED, [EXCHANGE], NOW)

    assert finding.verdict is Verdict.NOTE
    assert "blobs known, of an audit or of a first listing that is not complete yet" in finding.seen
    assert finding.fix == "start `m365watch run`, and read what it says of this tenant"


def test_content_older_than_the_start_time_is_found() -> None:
    """The service serves, the settings leave it all out."""
    service = replace(EXCHANGE, start_at=NOW - timedelta(minutes=5))
    finding = collected.judge_listed([feed(blobs_delivered=0)], SERVED, [service], NOW)

    assert (finding.verdict, "start_time_in_utc" in finding.seen) == (Verdict.BROKEN, True)


@pytest.mark.parametrize(
    ("overview", "row", "verdict"),
    [
        (FETCHED, feed(), Verdict.OK),
        (FETCHED, feed(blobs_lost=1), Verdict.NOTE),
        (Overview(0, 4, "HTTP 500", None), feed(blobs_delivered=0, blobs_waiting=4), Verdict.BROKEN),
        (Overview(0, 0, None, None), feed(blobs_delivered=0, blobs_quarantined=4), Verdict.BROKEN),
        (Overview(0, 0, None, None), feed(blobs_delivered=0, blobs_lost=4), Verdict.BROKEN),
        (Overview(0, 0, None, None), feed(), Verdict.OK),
    ],
)
def test_what_waits_or_is_gone_breaks_only_where_nothing_came(
    overview: Overview, row: FeedProgress, verdict: Verdict
) -> None:
    """One poison blob among thousands is a note; blobs that were forgotten came all the same."""
    assert collected.judge_fetched(overview, [row]).verdict is verdict


def test_nothing_but_duplicates_is_found() -> None:
    """They are where they went first."""
    row = feed(records_delivered=0, records_duplicate=7)

    assert collected.judge_duplicates([row]).verdict is Verdict.BROKEN
    assert collected.judge_duplicates([feed()]).verdict is Verdict.OK


def test_tables_follow_the_workloads_and_the_tag() -> None:
    """As the router names them."""
    workloads = {Feed(TENANT_ID, ContentType.EXCHANGE): ["Exchange", "SecurityComplianceCenter"]}
    tagged = replace(EXCHANGE, override_tag="my.app.one")

    assert collected.tables_of(TENANT_ID, [EXCHANGE], workloads) == [
        "cloud.office365.management.exchange",
        "cloud.office365.management.securitycompliancecenter",
    ]
    assert collected.tables_of(TENANT_ID, [tagged], workloads) == ["my.app.one"]
    assert "my.app.one" in collected.judge_routed([tagged], []).seen


def test_the_outputs_are_looked_at_up_to_the_broken_one() -> None:
    """Its error and its cure are told, and what is in its queue."""
    trouble = OutputProgress("devo", 5, 3, "connection refused", NOW, "open port 443")
    findings = collected.judge_delivered(["lake", "devo", "last"], {"lake": 9, "devo": 8}, [trouble], {})

    assert [one.verdict for one in findings] == [Verdict.OK, Verdict.BROKEN]
    assert findings[-1].fix == "open port 443"
    assert "3 blobs in its queue, 2 left out" in findings[-1].seen


def test_an_output_whose_disk_is_full_is_not_cured_by_the_network() -> None:
    """An error that may pass has no cure of its own; the network to the service, a feed's, is none."""
    trouble = OutputProgress("lake", 5, 3, "batch 8 could not be written: No space left on device", NOW)
    [finding] = collected.judge_delivered(["lake"], {"lake": 7}, [trouble], {})

    assert finding.fix == collected.OUTPUT_LATER
    assert "make room" in finding.fix
    assert "the service" not in finding.fix


def test_an_output_that_took_nothing_is_found() -> None:
    """Without an error, too."""
    [finding] = collected.judge_delivered(["lake"], {}, [], {})

    assert finding.verdict is Verdict.BROKEN
