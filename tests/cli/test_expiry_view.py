"""Credentials in `status`: the page, the document, the metrics."""

from __future__ import annotations

from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group

from m365watch.cli.status.expiry_view import credential_lines, credentials_document
from m365watch.health.expiry.expiry_store import KnownApplication
from m365watch.health.metrics import metrics_text
from m365watch.pipeline.latency import LatencyBook
from m365watch.registry.credential_specs import CredentialEnd, Source
from run_figures import NOW, TENANT, run_progress

DAY = timedelta(days=1)
CLIENT = "0a1b2c3d-0000-4000-8000-000000000001"
CURE = "create a new client secret in Entra and put its value into inputs.office365.credentials"
NEAR = CredentialEnd("client_secret", Source.CONFIGURATION, (NOW + 13 * DAY,))
ENDED = CredentialEnd("client_secret", Source.GRAPH, (NOW - 3 * DAY,), mark="00")
FAR = CredentialEnd("certificate", Source.CERTIFICATE, (NOW + 300 * DAY,))
UNKNOWN = CredentialEnd("client_secret", note="Graph does not permit the question", mark="00")
MANAGED = CredentialEnd("managed_identity", Source.RENEWED)


def application(*ends: CredentialEnd, tenants: tuple[str, ...] = (TENANT,)) -> KnownApplication:
    return KnownApplication("office365", CLIENT, list(tenants), list(ends), asked_at=NOW)


def page(*applications: KnownApplication, shown_max: int = 6) -> list[str]:
    return [line.plain for line in credential_lines(applications, now=NOW, shown_max=shown_max)]


def test_a_credential_that_expires_soon_is_followed_by_its_cure() -> None:
    """The others stand below, in fewer words."""
    assert page(application(NEAR)) == [
        f"expiry: the client secret of application {CLIENT} expires at 2026-12-07 12:00 UTC, in 13 days",
        f"hint: {CURE}",
    ]
    assert page(application(FAR)) == [
        "credential: certificate: expires at 2027-09-20 12:00 UTC, in 300 days (by the certificate itself)"
    ]
    assert page(application(UNKNOWN), application(MANAGED, tenants=("a", "b", "c"))) == [
        f"credential: {TENANT}: client secret: it is not known when it expires: {UNKNOWN.note}",
        "credential: a and 2 more tenants: managed identity: renewed by Azure",
    ]


def test_what_has_expired_says_what_that_means() -> None:
    """Nothing more is collected, unless another credential stands in."""
    assert page(application(ENDED))[0].endswith(", 3 days ago; without it nothing more is collected")
    with_another = page(application(ENDED, FAR))
    assert with_another[0].endswith(", 3 days ago; another credential of the application goes on")
    assert "(credential 1 of 2)" in with_another[0]


def test_a_page_of_many_applications_stays_short() -> None:
    """The soonest end first, and a line for the rest."""
    many = [
        application(CredentialEnd("client_secret", Source.CONFIGURATION, (NOW + days * DAY,)))
        for days in range(29, 0, -1)
    ]

    lines = page(*many, shown_max=2)

    assert "in 24 hours" in lines[0]
    assert len(lines) == 5
    assert lines[4] == "credential: and 27 more in --json"


@pytest.mark.parametrize("end", [NEAR, ENDED, FAR, UNKNOWN])
def test_a_pipe_gets_each_credential_and_its_cure_on_one_line(end: CredentialEnd) -> None:
    """However long: somebody greps for them, and copies from them."""
    console = Console(width=40, color_system=None)
    lines = credential_lines([application(end, tenants=("a", "b"))], now=NOW, shown_max=6)
    with console.capture() as capture:
        console.print(Group(*lines), crop=False)

    assert capture.get().splitlines() == [line.plain for line in lines]


def test_the_document_has_every_credential() -> None:
    """With the source of what is known, the warning and the cure."""
    near, unknown, managed = credentials_document([application(NEAR, UNKNOWN, MANAGED)], now=NOW)

    assert near == {
        "input": "office365",
        "client_id": CLIENT,
        "tenants": [TENANT],
        "credential": 1,
        "kind": "client_secret",
        "expires_at": "2026-12-07T12:00:00Z",
        "certain": True,
        "days_left": 13.0,
        "source": "configuration",
        "note": None,
        "asked_at": None,
        "warning": (
            f"the client secret (credential 1 of 3) of application {CLIENT} expires at 2026-12-07 12:00 UTC, "
            "in 13 days; another credential of the application goes on"
        ),
        "stops_collecting": False,
        "fix": CURE,
    }
    assert (unknown["expires_at"], unknown["days_left"], unknown["warning"]) == (None, None, None)
    assert (unknown["source"], unknown["note"]) == ("unknown", "Graph does not permit the question")
    assert unknown["fix"].startswith("set client_secret_expires_at in inputs.office365.credentials")
    assert (managed["source"], managed["expires_at"], managed["fix"]) == ("renewed", None, None)


def test_prometheus_reads_the_ends() -> None:
    """By tenant, input, kind and place; one that nobody knows is told as such."""
    text = metrics_text(
        run_progress(), LatencyBook(), [application(ENDED, UNKNOWN, tenants=("a", "b"))], now=NOW
    )
    found = {
        (sample.name, sample.labels["tenant"], sample.labels["credential"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("m365watch_credential")
    }

    name = "m365watch_credential_"
    assert found == {
        **{(f"{name}expires_timestamp_seconds", one, "1"): (NOW - 3 * DAY).timestamp() for one in "ab"},
        **{(f"{name}expires_days", one, "1"): -3.0 for one in "ab"},
        **{(f"{name}expiry_unknown", one, "1"): 0.0 for one in "ab"},
        **{(f"{name}expiry_unknown", one, "2"): 1.0 for one in "ab"},
    }
