"""The watch over a ledger: each threshold told once, over restarts too; who is asked, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from expiry_ward import CLIENT, DAY, SECRET, TENANT, Ward, listed, secret, tenant_of
from m365watch.auth.app_registration import ROLES, RegisteredCertificate, Registration, Standing
from m365watch.auth.certificates.certificate import load_certificate, thumbprints_of
from m365watch.common.clock import SystemClock
from m365watch.common.errors import CollectorError, CredentialsRefused, Unavailable
from m365watch.config.models.clouds import Cloud
from m365watch.health.expiry import watch
from m365watch.health.expiry.expiry_store import known_now
from m365watch.health.expiry.watch import TENANTS_ASKED_MAX
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.registry.credential_specs import Source
from m365watch_testing.certificates import Authority
from m365watch_testing.clock import START
from m365watch_testing.credentials import certificate, client_secret, federated_token, managed_identity

HOUR = timedelta(hours=1)
CURE = "create a new client secret in Entra and put its value into inputs.office365.credentials.client_secret"
SET = "set client_secret_expires_at in inputs.office365.credentials to be warned in time"


def run(
    folder: Path, use: Callable[[Ward], Awaitable[None]], *, now: datetime = START
) -> list[tuple[str, str]]:
    """The level and text of each line; none of them has the secret in it."""

    async def main() -> None:
        ward = Ward(folder, now)
        try:
            await use(ward)
        finally:
            ward.ledger.close()

    with capture_logs() as lines:
        asyncio.run(main())
    assert not [line for line in lines if SECRET in str(line)]
    assert {line["code"] for line in lines if "code" in line} <= {"credential_expires", "defect"}
    return [(line["log_level"], line["event"]) for line in lines]


@guarantee(25)
def test_each_threshold_is_told_once_and_the_end_is_an_error(tmp_path: Path) -> None:
    """Looked at every six hours from 40 days before to two days after."""

    async def use(ward: Ward) -> None:
        ward.start(tenant_of(secret(START + 40 * DAY)))
        for _ in range(42 * 4):
            await ward.look_after(6 * HOUR)

    lines = run(tmp_path, use)

    assert [level for level, _ in lines] == ["warning"] * 4 + ["error"]
    assert [text.partition(" UTC, ")[2].partition(";")[0] for _, text in lines] == [
        "in 30 days",
        "in 14 days",
        "in 7 days",
        "in 24 hours",
        "0 minutes ago",
    ]
    assert lines[0][1] == (
        f"{TENANT}: the client secret of application {CLIENT} expires at 2026-12-27 09:00 UTC, in 30 days; "
        + CURE
    )
    assert "has expired" not in lines[3][1]
    assert (
        "expired at 2026-12-27 09:00 UTC, 0 minutes ago; without it nothing more is collected;" in lines[4][1]
    )


@guarantee(25)
def test_a_restart_repeats_no_threshold_but_the_end(tmp_path: Path) -> None:
    """What has expired is told at every start, as nothing works until somebody acts."""

    async def use(ward: Ward) -> None:
        ends_at = START + 20 * DAY
        for days in (0, 1, 7, 14, 1):
            for _ in range(2):
                ward.start(tenant_of(secret(ends_at)))
                await ward.look_after(days * DAY / 2)
                await ward.watch.look()

    lines = run(tmp_path, use)

    assert [text.partition(" UTC, ")[2].partition(";")[0] for _, text in lines] == [
        *("in 20 days", "in 12 days", "in 5 days", "2 days ago", "2 days ago", "3 days ago"),
    ]


def test_a_certificate_that_was_replaced_ends_the_warning(tmp_path: Path) -> None:
    """Its file is read again while the run goes on; that the warning is over is told once."""
    authority, file = Authority(tmp_path), tmp_path / "app.pem"

    def put(lasts: timedelta) -> None:
        file.write_bytes(authority.issue("app", lasts=lasts).cert.read_bytes())

    async def use(ward: Ward) -> None:
        put(10 * DAY)
        ward.start(tenant_of(certificate(file)))
        await ward.watch.look()
        put(300 * DAY)
        await ward.look_after(HOUR)
        await ward.look_after(HOUR)
        put(299 * DAY)
        await ward.look_after(HOUR)
        assert [one.source for one in ward.remembered()[0].credentials] == [Source.CERTIFICATE]
        assert ward.graph.asked == []

    lines = run(tmp_path, use, now=SystemClock().now())

    assert [level for level, _ in lines] == ["warning", "info"]
    assert "`m365watch certificate create`" in lines[0][1]
    assert lines[1][1].endswith(": the warning is over")


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "is not there"), (b"nothing", "holds no certificate; give one in PEM, DER or PFX")],
)
def test_a_certificate_that_cannot_be_read_is_told_once(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    """As what is not known, with the reason; the token tells whether it is a trouble."""
    file = tmp_path / "app.pem"
    if content is not None:
        file.write_bytes(content)

    async def use(ward: Ward) -> None:
        for _ in range(3):
            ward.start(tenant_of(certificate(file)))
            await ward.look_after(HOUR)

    assert run(tmp_path, use) == [
        ("info", f"{TENANT}: it is not known when the certificate expires: {file} {why}")
    ]


def test_a_registration_that_ends_before_its_certificate_counts(tmp_path: Path) -> None:
    """Known where Graph is asked anyway, because a secret beside it has no end in the settings."""
    authority, file, now = Authority(tmp_path), tmp_path / "app.pem", SystemClock().now()
    file.write_bytes(authority.issue("app", lasts=300 * DAY).cert.read_bytes())
    thumbprint = thumbprints_of(load_certificate(file.read_bytes()).certificate).sha1_hex

    async def use(ward: Ward) -> None:
        secrets = listed(now + 200 * DAY).secrets
        registered = RegisteredCertificate(now + 20 * DAY, thumbprint)
        ward.graph.answer = Registration(Standing.LISTED, secrets, (registered,))
        for _ in range(2):
            ward.start(tenant_of(certificate(file), secret()))
            await ward.look_after(HOUR)
        assert [one.source for one in ward.remembered()[0].credentials] == [Source.GRAPH] * 2

    ((level, text),) = run(tmp_path, use, now=now)

    assert level == "warning"
    assert "the certificate (credential 1 of 2) of application" in text
    assert "in 19 days; another credential of the application goes on;" in text


@guarantee(25)
def test_graph_is_asked_once_a_day(tmp_path: Path) -> None:
    """Looks and restarts in between ask nobody; what it said last is known all the same."""

    async def use(ward: Ward) -> None:
        ward.graph.answer = listed(START + 40 * DAY)
        for _ in range(50):
            ward.start()
            await ward.look_after(HOUR)
        assert [at - START for _, at in ward.graph.asked] == [HOUR, 25 * HOUR, 49 * HOUR]
        ((known,),) = [one.credentials for one in ward.remembered()]
        assert (known.source, known.ends) == (Source.GRAPH, (START + 40 * DAY,))

    assert run(tmp_path, use) == []


def test_a_new_secret_is_asked_about_at_once(tmp_path: Path) -> None:
    """What was known of the old one says nothing of it: the warning is over, within the same day."""

    async def use(ward: Ward) -> None:
        ward.graph.answer = listed(START + 5 * DAY)
        await ward.watch.look()
        ward.graph.answer = listed(START + 700 * DAY, hint="new")
        ward.start(tenant_of(secret(value="newSecretOfTheApplication")))
        await ward.look_after(HOUR)
        assert len(ward.graph.asked) == 2

    lines = run(tmp_path, use)

    assert [level for level, _ in lines] == ["warning", "info"]


def test_a_secret_in_a_file_is_the_one_that_is_there_now(tmp_path: Path) -> None:
    """It is read again at each look; a new one is asked about at once, without a restart."""
    file = tmp_path / "secret"

    async def use(ward: Ward) -> None:
        file.write_text("first one\n")
        ward.graph.answer = listed(START + 5 * DAY, hint="fir")
        ward.start(tenant_of(client_secret("first one", file=file, name="second.client_secret_file")))
        await ward.watch.look()
        file.write_text("new one\n")
        ward.graph.answer = listed(START + 700 * DAY, hint="new")
        await ward.look_after(HOUR)

    lines = run(tmp_path, use)

    assert [level for level, _ in lines] == ["warning", "info"]
    assert lines[0][1].endswith("into inputs.office365.credentials.second.client_secret_file")


@guarantee(25)
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            Registration(Standing.NOT_PERMITTED),
            f"Graph does not permit the question, which needs {' or '.join(ROLES)}",
        ),
        (Registration(Standing.NOT_HERE), "the application is registered in another tenant"),
        (Unavailable("no connection (refused)"), "Graph could not be asked: no connection (refused)"),
        (
            CredentialsRefused("AADSTS7000222: expired", fix="x"),
            "Graph could not be asked: AADSTS7000222: expired",
        ),
        (listed(START, hint="abc"), "Graph lists no secret that begins like this one"),
    ],
)
def test_what_graph_does_not_tell_is_no_trouble(
    tmp_path: Path, answer: Registration | CollectorError, why: str
) -> None:
    """Told once as information, restarts included, with the setting that helps; and status knows why."""

    async def use(ward: Ward) -> None:
        ward.graph.answer = answer
        for _ in range(3):
            ward.start()
            await ward.look_after(DAY)
        ((known,),) = [one.credentials for one in ward.remembered()]
        assert (known.source, known.ends, known.note) == (Source.UNKNOWN, (), why)

    assert run(tmp_path, use) == [
        ("info", f"{TENANT}: it is not known when the client secret expires: {why}; {SET}")
    ]


def test_an_answer_outlives_days_on_which_graph_does_not_answer(tmp_path: Path) -> None:
    """What was known stays known, and is warned of."""

    async def use(ward: Ward) -> None:
        ward.graph.answer = listed(START + 31 * DAY)
        await ward.watch.look()
        for answer in (Unavailable("HTTP 503"), Registration(Standing.NOT_PERMITTED)):
            ward.graph.answer = answer
            await ward.look_after(DAY)

    ((level, text),) = run(tmp_path, use)

    assert level == "warning"
    assert "in 30 days" in text


def test_of_secrets_that_begin_alike_the_first_end_is_warned_of(tmp_path: Path) -> None:
    """In words that say so; once that has passed and a token is given all the same, the next one counts."""

    async def use(ward: Ward) -> None:
        ward.graph.answer = listed(START + 10 * DAY, START + 100 * DAY)
        await ward.watch.look()
        await ward.look_after(11 * DAY)

    lines = run(tmp_path, use)

    assert [level for level, _ in lines] == ["warning", "info"]
    assert (
        "may expire at 2026-11-27 09:00 UTC, in 10 days; Graph lists 2 secrets that it may be" in lines[0][1]
    )
    assert "expires at 2027-02-25 09:00 UTC, in 89 days: the warning is over" in lines[1][1]


def test_what_stands_in_is_looked_up_before_the_end_is_told(tmp_path: Path) -> None:
    """So that an end which another secret makes up for is a warning from the first line on."""

    async def use(ward: Ward) -> None:
        ward.graph.answer = listed(START + 300 * DAY, hint="sec")
        ward.start(tenant_of(secret(START - DAY), secret(value="second one")))
        await ward.watch.look()

    ((level, text),) = run(tmp_path, use)

    assert level == "warning"
    assert "another credential of the application goes on" in text


def test_an_application_of_many_tenants_has_one_warning(tmp_path: Path) -> None:
    """The tenant that it is registered in is looked for among them, and asked first from then on."""
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(500)]
    publisher = ids[3]

    async def use(ward: Ward) -> None:
        ward.graph.answer = Registration(Standing.NOT_HERE)
        ward.graph.answers[ids[1]] = listed(START + 7 * DAY)
        for _ in range(2):
            ward.start(*(tenant_of(tenant_id=one, publisher_id=publisher) for one in ids))
            await ward.look_after(DAY)
        assert [who for who, _ in ward.graph.asked] == [publisher, ids[0], ids[1], ids[1]]
        (known,) = ward.remembered()
        assert known.tenants == ids

    ((level, text),) = run(tmp_path, use)

    assert level == "warning"
    assert text.startswith(
        f"{ids[0]} and 499 more tenants: the client secret of application {CLIENT} expires"
    )


def test_not_every_tenant_is_asked_where_none_has_the_application(tmp_path: Path) -> None:
    """A bound on what one day's question costs."""

    async def use(ward: Ward) -> None:
        ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(100)]
        ward.start(*(tenant_of(tenant_id=one) for one in ids))
        await ward.watch.look()
        assert len(ward.graph.asked) == TENANTS_ASKED_MAX

    assert len(run(tmp_path, use)) == 1


def test_a_cloud_without_graph_is_never_asked(tmp_path: Path) -> None:
    """The end of its secrets is not known, and that is told."""

    async def use(ward: Ward) -> None:
        ward.start(tenant_of(cloud=Cloud("custom", "https://login", "https://manage", "https://manage")))
        await ward.look_after(DAY)
        assert ward.graph.asked == []

    ((level, text),) = run(tmp_path, use)

    assert level == "info"
    assert "the cloud names no host of Microsoft Graph (cloud.graph_url)" in text


def test_what_others_renew_needs_no_watch(tmp_path: Path) -> None:
    """A federated token and a managed identity never end here."""

    async def use(ward: Ward) -> None:
        ward.start(tenant_of(federated_token(tmp_path / "token"), managed_identity()))
        await ward.look_after(DAY)
        assert [one.source for one in ward.remembered()[0].credentials] == [Source.RENEWED] * 2

    assert run(tmp_path, use) == []


def test_the_watch_looks_every_hour_and_outlives_its_own_defects(tmp_path: Path) -> None:
    """An error that nobody foresaw is told with its place, and the next look is made."""

    class Broken(Exception):
        pass

    async def use(ward: Ward) -> None:
        asked = 0

        async def ask(_: object) -> Registration:
            nonlocal asked
            asked += 1
            raise Broken(SECRET)

        ward.watch._ask = ask
        async with ward.watch.running():
            await ward.clock.advance(25 * 3_600)
        assert asked == 2

    lines = run(tmp_path, use)

    assert [text.partition(" in ")[0] for level, text in lines if level == "error"] == [
        "expiry of credentials: unexpected Broken"
    ] * 2


def test_the_watch_follows_a_configuration_that_changes(tmp_path: Path) -> None:
    """What came is looked at now, what stayed is told nothing twice, what went is forgotten."""
    stays, goes, comes = (
        replace(tenant_of(secret(START + days * DAY)), input_name=name, client_id=name)
        for days, name in ((-1, "stays"), (5, "goes"), (6, "comes"))
    )

    async def use(ward: Ward) -> None:
        ward.start(stays, goes)
        async with ward.watch.running():
            await ward.clock.advance(1)
            ward.watch.change([stays, comes])
            await ward.clock.advance(1)
            assert [one.client_id for one in ward.remembered()] == ["stays", "comes"]

    lines = run(tmp_path, use)

    assert [text.partition("application ")[2].split()[0] for _, text in lines] == ["stays", "goes", "comes"]


def test_a_question_that_the_end_of_a_run_cut_short_is_not_asked_again(tmp_path: Path) -> None:
    """A firewall that swallows it costs a short run two seconds a day, not two seconds a run."""

    async def use(ward: Ward) -> None:
        asked = asyncio.Event()

        async def ask(_: object) -> Registration:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        ward.watch._ask = ask
        async with ward.watch.running():
            await asked.wait()
        ward.start()
        await ward.look_after(HOUR)
        assert ward.graph.asked == []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "LEAVE_S", 0.05)
        run(tmp_path, use)


def test_nothing_of_the_secret_is_in_the_ledger(tmp_path: Path) -> None:
    """Neither it nor its first characters beside what is remembered of it."""

    async def use(ward: Ward) -> None:
        ward.graph.answer = listed(START + 10 * DAY)
        await ward.watch.look()
        body = ward.ledger.remembered("expiry") or ""
        assert "client_secret" in body
        assert SECRET[:3] not in body

    run(tmp_path, use)

    assert not [
        file for file in tmp_path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()
    ]


def test_a_command_knows_what_the_collector_was_told(tmp_path: Path) -> None:
    """Of the secret that is in the settings now, and of no other; without a ledger the settings speak."""

    async def use(ward: Ward) -> None:
        ward.graph.answer = listed(START + 10 * DAY)
        await ward.watch.look()

    run(tmp_path, use)
    ledger = tmp_path / LEDGER_FILE

    asked = [
        known_now(tenant_of(secret()), ledger),
        known_now(tenant_of(secret(value="another one")), ledger),
        known_now(tenant_of(secret(START)), tmp_path / "none"),
    ]

    assert [one.credentials[0].ends for one in asked] == [(START + 10 * DAY,), (), (START,)]
