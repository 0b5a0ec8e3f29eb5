"""What a preflight finds at the service: each step alone is broken, and what needs it is skipped."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from m365watch.auth.app_registration import Registration, Standing
from m365watch.auth.permissions import NEEDS, Api, apis_of, missing_roles
from m365watch.common.clock import SystemClock
from m365watch.common.errors import NotSubscribed
from m365watch.common.model import ContentType, Service
from m365watch.common.secret import Secret
from m365watch.config.models.settings import (
    ServiceSettings,
    TenantSettings,
)
from m365watch.health.checks.access_checks import judge_roles
from m365watch.health.checks.credentials import Registrations
from m365watch.health.checks.tenant_checks import Served, judge_listing, judge_subscription, judge_token
from m365watch.health.expiry.expiry_store import known_now
from m365watch.registry.checks import Check, Group
from m365watch.sources.management_api.responses import ListedSubscription, parse_subscription_list
from m365watch_simulator.service.identities import derive_identities
from m365watch_simulator.service.scenario import Behaviour, Scenario
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from m365watch_testing.certificates import Authority
from m365watch_testing.credentials import certificate, client_secret
from preflight_scene import (
    BROKEN,
    NOTE,
    OK,
    SKIPPED,
    broken,
    groups_of,
    make_service,
    preflight,
    settings_of,
    simulating,
    skipped,
    steps_of,
    tenant_group,
    tenant_input,
    verdicts,
)

TOKEN_STEPS = {"tenant", "audience", "roles", "audit", "subscriptions", "listing"}
SERVICE_STEPS = {"audit", "subscriptions", "listing"}


def at_token(answer: str, **more: object) -> Scenario:
    """Every request for a token is answered so."""
    return Scenario.model_validate({"rules": [{"on": "token", "answer": answer, "times": "always", **more}]})


def at_subscriptions(answer: str) -> Scenario:
    return Scenario.model_validate({"rules": [{"on": "subscriptions", "answer": answer, "times": "always"}]})


def test_a_right_configuration_passes_and_tells_what_a_run_will_start(tmp_path: Path) -> None:
    """Every step is looked at, in order; a subscription that is not there yet is only a note."""
    groups = preflight(tmp_path)

    assert [str(group.place) for group in groups] == ["machine", "network", "tenant", "outputs"]
    assert verdicts(groups) == {
        **{check: {"ok"} for check in ("configuration", "permissions", "state", "disk")},
        **{check: {"ok"} for check in ("proxy", "dns", "tls", "clock")},
        **{check: {"ok"} for check in ("credential", "token", "tenant", "audience", "roles", "audit")},
        "subscriptions": {"note"},
        "listing": {"skipped"},
        "output": {"ok"},
    }
    assert "`m365watch run` starts what is missing" in str(steps_of(groups, Check.SUBSCRIPTIONS)[0].fix)


def test_the_end_of_a_secret_is_asked_of_graph_where_that_is_permitted(tmp_path: Path) -> None:
    """Before any collector has run; where it is not permitted, the permission is named."""
    (life,) = steps_of(preflight(tmp_path, "secret-ends-soon"), Check.CREDENTIAL)
    assert life.verdict is NOTE
    assert life.seen.endswith("(by Graph)")
    (life,) = steps_of(preflight(tmp_path), Check.CREDENTIAL)
    assert life.verdict is OK
    assert "Graph does not permit the question, which needs Application.Read.All" in life.seen
    assert "client_secret_expires_at" in life.seen


def test_graph_is_asked_once_for_all_tenants_of_an_application(tmp_path: Path) -> None:
    """It is one registration, however many tenants consent to it."""
    asked = []

    async def ask(tenant: TenantSettings) -> Registration:
        asked.append(tenant.tenant_id)
        return Registration(Standing.NOT_HERE)

    async def main() -> set[str]:
        async with simulating() as running:
            [tenant] = settings_of(tmp_path, running).tenants
            registrations = Registrations(ask, clock=SystemClock(), limit_s=1.0)
            known = [known_now(tenant, tmp_path / "none") for _ in range(3)]
            await asyncio.gather(*(registrations.complete(one, tenant) for one in known))
            return {one.credentials[0].note for one in known}

    assert asyncio.run(main()) == {"the application is registered in another tenant"}
    assert len(asked) == 1


def test_a_date_that_is_past_is_odd_where_entra_takes_the_secret(tmp_path: Path) -> None:
    """Who exchanges a secret may forget its date; what Entra says counts."""

    def forget(document: dict[str, Any]) -> None:
        tenant_input(document)["credentials"]["client_secret_expires_at"] = "2024-01-31"

    groups = preflight(tmp_path, change=forget)
    (life,) = steps_of(groups, Check.CREDENTIAL)

    assert life.verdict is NOTE
    assert life.seen.endswith("and yet Entra takes it")
    assert "client_secret_expires_at" in str(life.fix)
    (life,) = steps_of(preflight(tmp_path, "secret-expired", change=forget), Check.CREDENTIAL)
    assert life.verdict is BROKEN


def test_subscriptions_that_are_there_are_listed_with_what_they_serve(tmp_path: Path) -> None:
    """One line for each service, with the blobs of the last day or none."""

    async def main() -> list[Group]:
        async with simulating() as running:
            tenant = running.tenants[0]
            for content_type in ContentType:
                if "Health" not in content_type:
                    tenant.subscriptions.start(str(content_type), SystemClock().now())
            return await groups_of(settings_of(tmp_path, running))

    groups = asyncio.run(main())
    listings = {step.subject: step.seen for step in steps_of(groups, Check.LISTING)}

    assert verdicts(groups)["subscriptions"] == verdicts(groups)["listing"] == {"ok"}
    assert set(listings) == {"azure_active_directory", "exchange", "sharepoint", "general_audit", "dlp"}
    assert "on the first page of the last 24 h" in listings["exchange"]


@pytest.mark.parametrize(
    ("scenario", "check", "text", "cure", "waiting"),
    [
        ("secret-expired", Check.TOKEN, "AADSTS7000222", "credentials.client_secret", TOKEN_STEPS),
        ("application-disabled", Check.TOKEN, "AADSTS7000112", "enable the enterprise", TOKEN_STEPS),
        (at_token("html_404"), Check.TOKEN, "HTTP 404 without a token", "answers in the server", TOKEN_STEPS),
        (at_token("html_503"), Check.TOKEN, "HTTP 503", "network", TOKEN_STEPS),
        (at_token("invalid_json"), Check.TOKEN, "without a token", "answers in the server", TOKEN_STEPS),
        (at_token("redirect"), Check.TOKEN, "without a token", "answers in the server", TOKEN_STEPS),
        (at_token("reset"), Check.TOKEN, "broken", "network", TOKEN_STEPS),
        ("foreign-token", Check.TENANT, "00000000-0000-4000", "credentials.tenant_id", SERVICE_STEPS),
        ("no-roles", Check.ROLES, "ActivityFeed.Read is missing", "admin consent", SERVICE_STEPS),
        ("audit-never-enabled", Check.AUDIT, "never enabled", "Set-AdminAudit", {"subscriptions", "listing"}),
        (
            at_subscriptions("unauthorized_message"),
            Check.SUBSCRIPTIONS,
            "HTTP 401",
            "cloud.audience",
            {"audit", "listing"},
        ),
        (
            at_subscriptions("af10001"),
            Check.SUBSCRIPTIONS,
            "the token lacks a permission",
            "grant the application ActivityFeed.Read",
            {"audit", "listing"},
        ),
        (
            at_subscriptions("af429_as_403"),
            Check.SUBSCRIPTIONS,
            "too many requests",
            "wait some minutes",
            {"audit", "listing"},
        ),
        (
            at_subscriptions("html_500"),
            Check.SUBSCRIPTIONS,
            "HTTP 500",
            "nothing if it passes",
            {"audit", "listing"},
        ),
    ],
)
def test_a_step_at_the_service_is_found_alone(
    tmp_path: Path, scenario: Scenario | str, check: Check, text: str, cure: str, waiting: set[str]
) -> None:
    """With what was seen and what to do; what needs it is skipped and says so."""
    groups = preflight(tmp_path, scenario)
    step = broken(groups)

    assert step.check is check
    assert text in step.seen
    assert cure in str(step.fix)
    assert skipped(groups) == dict.fromkeys(waiting, str(check))


def test_a_token_endpoint_that_stalls_is_waited_for_so_long(tmp_path: Path) -> None:
    """As --timeout says, and no longer."""
    step = broken(preflight(tmp_path, at_token("stall", duration_s=60), limit_s=2.0))

    assert (step.check, step.seen) == (Check.TOKEN, "no answer in time")
    assert "firewall" in str(step.fix)


@pytest.mark.parametrize(("ahead_s", "verdict"), [(2.0, OK), (-60.0, NOTE), (900.0, BROKEN)])
def test_the_clock_is_compared_with_the_servers(tmp_path: Path, ahead_s: float, verdict: object) -> None:
    """A note from 5 s on; at 5 minutes tokens and windows fail."""
    groups = preflight(tmp_path, Scenario(behaviour=Behaviour(clock_ahead_s=ahead_s)))
    [step] = steps_of(groups, Check.CLOCK)

    assert step.verdict is verdict
    assert verdict is OK or "NTP" in str(step.fix)


def test_the_permission_of_dlp_alone_is_a_note(tmp_path: Path) -> None:
    """Every other service does without it."""
    [step] = steps_of(preflight(tmp_path, "no-dlp-role"), Check.ROLES)

    assert (step.verdict, "ActivityFeed.ReadDlp is missing" in step.seen) == (NOTE, True)


def test_two_credentials_are_tried_each_by_itself(tmp_path: Path) -> None:
    """The one that does not work is a note with its cure, as long as the other does."""

    async def main(*, is_first_wrong: bool, is_second_wrong: bool) -> Group:
        async with simulating() as running:
            settings = settings_of(tmp_path, running)
            right = running.tenants[0].identity.client_secret
            wrong = "quite-another"
            pair = (
                client_secret(wrong if is_first_wrong else right),
                client_secret(wrong if is_second_wrong else right, name="second.client_secret"),
            )
            tenant = replace(settings.tenants[0], credentials=pair)
            return tenant_group(await groups_of(replace(settings, tenants=(tenant,))))

    one = asyncio.run(main(is_first_wrong=True, is_second_wrong=False))
    both = asyncio.run(main(is_first_wrong=True, is_second_wrong=True))

    assert [(step.subject, step.verdict) for step in one.steps if step.check is Check.TOKEN] == [
        ("client_secret", NOTE),
        ("second.client_secret", OK),
    ]
    assert not one.is_broken
    assert "credentials.second.client_secret" in str([step.fix for step in both.steps])
    assert [step.verdict for step in both.steps if step.check is Check.TOKEN] == [BROKEN, BROKEN]
    assert "quite-another" not in str(one) + str(both)


def test_a_certificate_is_tried_like_a_secret(tmp_path: Path) -> None:
    """How long it lives, and whether Entra takes it; one that is not registered has a cure of its own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    known = Authority(tmp_path).issue("app", key=key, lasts=timedelta(days=10, hours=1))
    strange = Authority(tmp_path, "Other CA").issue("app", key=key)

    async def main() -> list[Group]:
        identity = replace(derive_identities(5)[0], certificate=known.cert.read_bytes())
        wanted = SimulationSettings(seed=5, tenants=(identity,), days=1, records_per_day=4, live=False)
        async with simulator_running(wanted, clock=SystemClock()) as running:
            settings = settings_of(tmp_path, running)
            groups = []
            for files in (known, strange):
                proof = certificate(files.cert, key=files.key)
                tenant = replace(settings.tenants[0], credentials=(proof,))
                groups.append(tenant_group(await groups_of(replace(settings, tenants=(tenant,)))))
            return groups

    taken, refused = asyncio.run(main())
    [life] = [step for step in taken.steps if step.check is Check.CREDENTIAL]
    [token] = [step for step in refused.steps if step.check is Check.TOKEN]

    assert not taken.is_broken
    assert (life.verdict, "in 10 days" in life.seen) == (NOTE, True)
    assert token.seen.startswith("AADSTS700027: the certificate is not registered")
    assert "upload the certificate of credentials.certificate_file" in str(token.fix)


@pytest.mark.parametrize("has_second", [False, True])
def test_a_key_of_another_certificate_is_told_before_a_token_is_asked_for(
    tmp_path: Path, has_second: bool
) -> None:
    """It is seen on this machine; where another credential is left, that one is tried and will do."""
    authority = Authority(tmp_path)
    one, other = (
        authority.issue("app", key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
        for _ in range(2)
    )
    mixed = certificate(one.cert, key=other.key)

    async def main() -> list[Group]:
        async with simulating() as running:
            settings = settings_of(tmp_path, running)
            [secret] = settings.tenants[0].credentials
            proofs = (mixed, secret) if has_second else (mixed,)
            return await groups_of(
                replace(settings, tenants=(replace(settings.tenants[0], credentials=proofs),))
            )

    steps = tenant_group(asyncio.run(main())).steps
    [life] = [step for step in steps if step.check is Check.CREDENTIAL and step.subject == mixed.name]
    tokens = [(step.verdict, step.waits_for) for step in steps if step.check is Check.TOKEN]

    assert life.verdict is (NOTE if has_second else BROKEN)
    assert life.seen == f"the key in {other.key} does not belong to the certificate {one.cert}"
    assert life.fix == "give the key that the certificate was made with"
    assert tokens == [(SKIPPED, Check.CREDENTIAL), (OK, None)][: len(tokens)]
    assert len(tokens) == 1 + has_second


def test_a_token_for_another_audience_is_found(tmp_path: Path) -> None:
    """An emulator or a proxy may answer with whatever it has."""

    async def main() -> list[Any]:
        async with simulating() as running:
            tenant = settings_of(tmp_path, running).tenants[0]
            claims = {"tid": tenant.tenant_id, "aud": "https://graph.microsoft.com/", "roles": []}
            body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
            return judge_token(f"h.{body}.s", tenant, tenant.services, Api.MANAGEMENT, tenant.cloud.audience)

    found = {step.check: step for step in asyncio.run(main())}

    assert found[Check.TENANT].verdict is OK
    assert found[Check.AUDIENCE].verdict is BROKEN
    assert "cloud.audience" in str(found[Check.AUDIENCE].fix)


def test_a_start_that_is_yet_to_come_is_told(tmp_path: Path) -> None:
    """Nothing would be collected until then."""

    def change(document: dict[str, Any]) -> None:
        start = SystemClock().now() + timedelta(days=3)
        service = {"start_time_in_utc": f"{start:%Y-%m-%dT%H:%M:%S.000Z}"}
        tenant_input(document)["services"] = {"exchange": service}

    [step, *_] = tenant_group(preflight(tmp_path, change=change)).steps

    assert (step.check, step.verdict) == (Check.CONFIGURATION, BROKEN)
    assert "lies in the future" in step.seen


LISTED = """[
    {"contentType": "Audit.Exchange", "status": "enabled",
     "webhook": {"authId": "x", "address": "https://hook.example/o365", "status": "expired"}},
    {"contentType": "Audit.SharePoint", "webhook": null},
    {"contentType": "DLP.All", "status": "disabled", "webhook": null},
    {"contentType": "Audit.Future", "status": "enabled"}
]"""


@pytest.mark.parametrize(
    ("service", "served", "verdict", "text"),
    [
        (Service.EXCHANGE, Served(), NOTE, "with a webhook to https://hook.example/o365 (expired)"),
        (Service.SHAREPOINT, Served(), OK, "enabled"),
        (Service.SHAREPOINT, Served(error=NotSubscribed("it was disabled")), NOTE, "listed, and yet"),
        (Service.DLP, Served(), NOTE, "disabled"),
        (Service.GENERAL_AUDIT, Served(), NOTE, "not started yet"),
    ],
)
def test_each_subscription_is_judged(service: Service, served: Served, verdict: object, text: str) -> None:
    """Missing and disabled ones are started by a run; a webhook that is dead is told."""
    listed = parse_subscription_list(LISTED.encode(), where="here")
    step = judge_subscription(make_service(service), listed, served)

    assert (step.verdict, step.subject) == (verdict, str(service))
    assert text in step.seen


def test_a_quiet_service_is_no_fault() -> None:
    """`none` is an answer; a listing without a subscription waits for it."""
    service = make_service(Service.DLP)
    quiet = judge_listing(service, Served())
    waits = judge_listing(service, Served(error=NotSubscribed("there is none")))

    assert (quiet.verdict, quiet.seen) == (OK, "none in the last 24 h")
    assert (waits.verdict, waits.waits_for) == (SKIPPED, Check.SUBSCRIPTIONS)


def test_every_need_has_its_row() -> None:
    """The API of a service decides whose token is looked at; a missing role stops what needs it."""
    services = [make_service(Service.EXCHANGE), make_service(Service.DLP)]

    assert apis_of(services) == [Api.MANAGEMENT]
    assert [need.role for need in missing_roles([], services, Api.MANAGEMENT)] == [
        "ActivityFeed.Read",
        "ActivityFeed.ReadDlp",
    ]
    assert judge_roles(["ActivityFeed.Read"], services[1:]).verdict is BROKEN
    assert judge_roles(["ActivityFeed.Read"], services).verdict is NOTE
    assert all(need.fix for need in NEEDS)


KINDS = ("overviews", "issues", "messages")


def test_without_a_token_what_graph_would_say_is_skipped_by_name(tmp_path: Path) -> None:
    """Where service health is collected: left out, it looked as if nobody had asked for it."""

    def with_health(document: dict[str, Any]) -> None:
        document["inputs"]["office365"]["services"]["service_health"] = {}

    groups = preflight(tmp_path, "secret-expired", change=with_health)
    plain = preflight(tmp_path, "secret-expired")

    waiting = [step for step in steps_of(groups) if step.subject == "Microsoft Graph"]
    assert [(step.check, step.verdict, step.waits_for) for step in waiting] == [
        (Check.TOKEN, SKIPPED, Check.TOKEN),
        (Check.ROLES, SKIPPED, Check.TOKEN),
    ]
    assert [step for step in steps_of(plain) if step.subject == "Microsoft Graph"] == []


def test_service_health_needs_roles_of_graph() -> None:
    """One for overviews and issues, one for messages; without either nothing of it comes."""
    health = cast("ServiceSettings", SimpleNamespace(service="service_health", announcements=KINDS))
    messages = cast("ServiceSettings", SimpleNamespace(service="service_health", announcements=("messages",)))
    exchange = make_service(Service.EXCHANGE)
    roles = ["ServiceHealth.Read.All"]
    partly = judge_roles(roles, [exchange, health], Api.GRAPH)
    only_messages = judge_roles(roles, [messages], Api.GRAPH)

    assert apis_of([exchange, health]) == [Api.MANAGEMENT, Api.GRAPH]
    assert judge_roles([], [exchange, health], Api.GRAPH).verdict is BROKEN
    assert (partly.verdict, only_messages.verdict) == (NOTE, BROKEN)
    assert "ServiceMessage.Read.All is missing, which service_health needs for its messages" in partly.seen
    assert judge_roles(["ActivityFeed.Read"], [exchange, health]).verdict is OK


def test_the_list_of_subscriptions_keeps_its_webhooks() -> None:
    """One without a status counts as enabled, and one that nobody knows is left out."""
    assert parse_subscription_list(LISTED.encode(), where="here") == [
        ListedSubscription(
            ContentType.EXCHANGE,
            True,
            "https://hook.example/o365",
            "expired",
            webhook_auth_id=Secret("x"),
        ),
        ListedSubscription(ContentType.SHAREPOINT, True),
        ListedSubscription(ContentType.DLP, False),
    ]
