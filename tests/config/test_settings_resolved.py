"""What a correct document turns into: defaults, units, clouds, budgets, warnings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from made_outputs import console, files_in, lake_in

from m365watch.common.model import Service
from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.settings import Settings, TenantSettings
from settings_documents import APPLICATION, OTHER_TENANT, SECRET, TENANT, filled_in, settings_of

LOCAL = {"login_url": "http://127.0.0.1:8401/", "management_url": "http://localhost:8401"}


def tenant_of(**changes: object) -> TenantSettings:
    (tenant,) = settings_of(filled_in(**changes)).tenants
    return tenant


def start_of(text: str) -> datetime | None:
    (service,) = tenant_of(services={"dlp": {"start_time_in_utc": text}}).services
    return service.start_at


def test_what_is_left_out_has_the_documented_defaults() -> None:
    """Credentials alone make a collector."""
    settings = settings_of(filled_in())
    (tenant,) = settings.tenants

    assert settings == Settings(
        path=Path("/somewhere/collector.json"),
        collector_name="m365watch",
        state_directory=Path("/somewhere/state"),
        debug=False,
        tenants=(tenant,),
        outputs=(lake_in(Path("/somewhere/lake")),),
        warnings=(),
        detections=settings.detections,
    )
    found, defaults = vars(settings.detections), vars(DetectionsSection(enabled=True))
    assert found | {"response": None} == defaults | {"response": None}
    assert (tenant.input_name, tenant.input_id) == ("office365", "office365")
    assert (tenant.tenant_id, tenant.publisher_id) == (TENANT, TENANT)
    assert (tenant.cloud.name, tenant.requests_per_minute) == ("worldwide", 2_000)
    assert tenant.lookback_s == 7_200
    assert {s.service for s in tenant.services} == {*Service} - {Service.URI_RETRY, Service.SERVICE_HEALTH}
    assert {s.request_period_s for s in tenant.services} == {300}


def test_numbers_and_booleans_may_stand_in_quotes() -> None:
    """Devo's own template has them so."""
    service = {"request_period_in_seconds": "60", "override_bloom_filter_size": " 7 ", "enabled": "True"}
    (resolved,) = tenant_of(lookback_secs="0", services={"dlp": service}).services

    assert (resolved.request_period_s, resolved.bloom_filter_size) == (60, 7)


@pytest.mark.parametrize(
    ("text", "instant_at"),
    [
        ("2026-11-17T00:00:00.000Z", datetime(2026, 11, 17, tzinfo=UTC)),
        ("2026-11-17T00:00:00Z", datetime(2026, 11, 17, tzinfo=UTC)),
        ("2026-11-17T01:30:00+01:30", datetime(2026, 11, 17, tzinfo=UTC)),
        ("2026-11-17", datetime(2026, 11, 17, tzinfo=UTC)),
        ("2026-11-17 08:00", datetime(2026, 11, 17, 8, tzinfo=UTC)),
        ("2026-11-17T00:00:00.1234567Z", datetime(2026, 11, 17, microsecond=123456, tzinfo=UTC)),
    ],
)
def test_a_start_time_is_an_instant_in_utc(text: str, instant_at: datetime) -> None:
    """Any of ISO 8601's ways to write it; without a zone it is what the key says, UTC."""
    found = start_of(text)

    assert found == instant_at
    assert found is not None
    assert found.tzinfo is UTC
    assert found.astimezone(timezone(timedelta(hours=5))) == instant_at


def test_every_tenant_of_a_list_is_a_tenant_of_its_own() -> None:
    """One multi-tenant application serves many tenants, each with itself as publisher."""
    credentials = {"tenant_id": [TENANT, OTHER_TENANT.upper()], "client_id": APPLICATION}
    tenants = settings_of(filled_in(credentials=credentials | {"client_secret": SECRET})).tenants

    assert [(t.tenant_id, t.publisher_id) for t in tenants] == [(t, t) for t in (TENANT, OTHER_TENANT)]


def test_a_publisher_identifier_goes_with_every_tenant() -> None:
    """A provider collects under its own tenant."""
    assert tenant_of(publisher_identifier=OTHER_TENANT.upper()).publisher_id == OTHER_TENANT


@pytest.mark.parametrize(
    ("name", "login", "management"),
    [
        ("worldwide", "login.microsoftonline.com", "manage.office.com"),
        ("gcc", "login.microsoftonline.com", "manage-gcc.office.com"),
        ("gcc-high", "login.microsoftonline.us", "manage.office365.us"),
        ("dod", "login.microsoftonline.us", "manage.protection.apps.mil"),
        ("china", "login.partner.microsoftonline.cn", "manage.office365.cn"),
    ],
)
def test_a_cloud_of_microsofts_is_its_hosts(name: str, login: str, management: str) -> None:
    """The audience of a token is the host that the API is called at."""
    tenant = tenant_of(cloud=name)

    assert tenant.cloud.login_url == f"https://{login}"
    assert tenant.cloud.management_url == tenant.cloud.audience == f"https://{management}"
    assert tenant.requests_per_minute == 2_000


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://localhost", "https://a.example/b"],
)
def test_a_cloud_of_ones_own_may_be_on_loopback(url: str) -> None:
    """Simulators and emulators speak plain http on the machine itself, and have no budget."""
    tenant = tenant_of(cloud={"login_url": url + "/", "management_url": url})

    assert tenant.cloud.login_url == tenant.cloud.management_url == tenant.cloud.audience == url
    assert tenant.requests_per_minute is None


def test_a_clouds_audience_may_differ_from_its_host() -> None:
    """An emulator on loopback may still check for the real audience."""
    cloud = LOCAL | {"audience": "https://manage.office.com"}

    assert tenant_of(cloud=cloud).cloud.audience == "https://manage.office.com"


def limit(period: str, number: object) -> dict[str, object]:
    return {"period": period, "number_of_requests": number}


@pytest.mark.parametrize(
    ("changes", "budget"),
    [
        ({"requests_limits": [limit("1m", "500")]}, 500),
        ({"requests_limits": [limit("1h", 6_000), limit("1s", 10)]}, 100),
        ({"requests_limits": [limit("2m", 100)], "cloud": LOCAL}, 50),
        ({"requests_limits": [limit("1d", 10)]}, 1),
        ({"requests_limits": [limit("1m", -1)]}, None),
        ({"requests_limits": []}, 2_000),
        ({"requests_per_second": 2}, 120),
        ({"requests_per_second": "0.5", "requests_limits": [limit("1M", -1), limit("1m", 40)]}, 30),
        ({"cloud": {"login_url": "http://localhost", "management_url": "https://manage.office.com"}}, 2_000),
    ],
)
def test_the_tightest_limit_is_the_budget(changes: dict[str, object], budget: int | None) -> None:
    """Whole requests a minute; Microsoft's own number holds on Microsoft's hosts unless one is set."""
    assert tenant_of(**changes).requests_per_minute == budget


def test_outputs_have_their_names_and_absolute_folders() -> None:
    """Paths start at the configuration's folder; both names of the console stand for it."""
    outputs = {
        "a": {"type": "lake"},
        "b": {"type": "files"},
        "c": {
            "type": "files",
            "config": {"directory": "/f", "compression": "zstd", "rotate_megabytes": "1", "rotate_secs": 60},
        },
        "d": {"type": "console", "config": None},
        "e": {"type": "stdout", "config": {}},
    }

    assert settings_of(filled_in() | {"outputs": outputs}).outputs == (
        lake_in(Path("/somewhere/lake"), "a"),
        files_in(Path("/somewhere/records"), "b"),
        files_in(Path("/f"), "c", compression="zstd", rotate_megabytes=1, rotate_secs=60),
        console("d"),
        console("e").model_copy(update={"type": "stdout"}),
    )


def test_a_collectors_name_is_made_fit_for_devo() -> None:
    """Devo replaces three characters; the change is said, not made in silence."""
    settings = settings_of(filled_in() | {"globals": {"name": "M365 audit.eu#1", "id": 7, "debug": "true"}})

    assert (settings.collector_name, settings.debug) == ("M365_audit_eu_1", True)
    assert settings.warnings == ("globals.name: is used as M365_audit_eu_1",)


def test_every_key_without_effect_is_named() -> None:
    """What Devo's collector would do and this one does not is never dropped in silence."""
    document = filled_in(
        autoconfig={"enabled": True},
        retries=3,
        services={
            "dlp": {"use_time_slots_for_retrievals": True, "retries": 2},
            "uri_retry": {"override_tag": "my.app.late", "obfuscation_data": []},
        },
        environment="prod",
    ) | {
        "globals": {
            "queue_max_size_in_messages": "1000",
            "devo_sender_threshold_for_using_gzip_in_transport_layer": 1.1,
            "generate_collector_details": False,
        },
        "outputs": {"x": {"type": "console", "config": {"destination": "stdout"}}},
    }

    of_late_records = (
        "has no effect; a record that is fetched late is treated as the service it came with says"
    )
    assert sorted(settings_of(document).warnings) == [
        (
            "globals.devo_sender_threshold_for_using_gzip_in_transport_layer: "
            "has no effect without an output of type devo_platform"
        ),
        "globals.generate_collector_details: has no effect in this version",
        "globals.queue_max_size_in_messages: has no effect in this version",
        "inputs.office365.autoconfig: has no effect in this version",
        "inputs.office365.environment: has no effect without an output that adds Devo's fields",
        "inputs.office365.retries: has no effect in this version",
        "inputs.office365.services.dlp.retries: has no effect in this version",
        "inputs.office365.services.dlp.use_time_slots_for_retrievals: has no effect in this version",
        f"inputs.office365.services.uri_retry.obfuscation_data: {of_late_records}",
        f"inputs.office365.services.uri_retry.override_tag: {of_late_records}",
        "outputs.x.config.destination: has no effect in this version",
    ]


def test_uri_retry_as_devo_wants_it_is_no_warning() -> None:
    """Every file of a user of Devo's collector names it, since it is mandatory there."""
    retry = {"enabled": True, "request_period_in_seconds": 60, "requests_limits": [limit("1m", 1)]}
    for service in ({"enabled": True}, {"enabled": False}, {}, retry):
        settings = settings_of(filled_in(services={"dlp": {}, "uri_retry": service}))

        assert [s.service for s in settings.tenants[0].services] == [Service.DLP]
        assert settings.warnings == ()


def test_null_is_the_same_as_left_out() -> None:
    """Devo's overrides count only where they are not null."""
    document = filled_in(
        id=None, cloud=None, services={"dlp": {"override_tag": None, "start_time_in_utc": None}}
    )
    plain = filled_in(services={"dlp": {}})

    assert settings_of(document | {"globals": None, "outputs": None}) == settings_of(plain)
