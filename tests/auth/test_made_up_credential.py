"""One registration: a kind of credential of another package is known wherever credentials are."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import typer
from promises import guarantee
from pydantic import create_model
from shifted import now

import visa
from configured import SECRET as SECRET_OF_THE_FILE
from configured import YAML, Configured
from expiry_ward import Graph
from m365watch.auth.factory import make_credentials
from m365watch.auth.tokens import TokenSource
from m365watch.cli.setup.init_answers import Given, collect_answers
from m365watch.common.errors import CredentialsRefused, Defect, SettingsRefused
from m365watch.config.loader import example_settings, load_settings, parse_settings
from m365watch.config.models.base import SecretText
from m365watch.config.models.credentials import CredentialSettings
from m365watch.config.models.settings import Settings
from m365watch.config.reference import keys_below, render_reference
from m365watch.config.template import write_configuration
from m365watch.health.event_log import list_secrets
from m365watch.health.expiry.watch import ExpiryWatch
from m365watch.http.client import open_session
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.registry.checks import Check
from m365watch.registry.credential_specs import CREDENTIALS
from m365watch_testing.clock import START, FakeClock
from m365watch_testing.loop import CallsInLine
from m365watch_testing.loopback import LoopbackServer, Received, Reply
from preflight_scene import BROKEN, NOTE, OK, groups_of, simulating, steps_of
from preflight_scene import settings_of as settings_of_scene

TENANT = "5df5e41b-0640-4fdb-bf01-49691be8e735"
CLIENT = "cde3d36d-c36a-4df6-abb3-607d29e179a4"
STAMP = "a-stamp-that-nobody-sees"
AT = "inputs.office365.credentials"


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with CREDENTIALS.register(visa.SPEC):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a visa that only its owner may read."""
    private(tmp_path / "my.visa", f"visa {STAMP}")
    return tmp_path


def private(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


def settings_of(folder: Path, **keys: Any) -> Settings:
    credentials = {"tenant_id": TENANT, "client_id": CLIENT, **keys}
    document = {"inputs": {"office365": {"credentials": credentials}}}
    return parse_settings(document, path=folder / "m365watch.yaml", environment={})


def mistakes_of(folder: Path, **keys: Any) -> str:
    with pytest.raises(SettingsRefused) as refused:
        settings_of(folder, **keys)
    return "\n".join(refused.value.mistakes)


def test_the_configuration_has_it_where_it_needs_looking_after(folder: Path) -> None:
    """Before a secret, in `second` as well, and of the application that responds."""
    settings = settings_of(
        folder,
        visa_file="my.visa",
        visa_expires_at="2027-01-31",
        client_secret="made-up",
        second={"visa_file": "my.visa"},
    )
    found = settings.tenants[0].credentials

    assert [one.name for one in found] == ["visa_file", "client_secret", "second.visa_file"]
    assert isinstance(found[0], visa.VisaSettings)
    assert found[0].visa_file == folder / "my.visa"
    assert found[0].visa_expires_at == datetime(2027, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("keys", "mistake"),
    [
        ({}, ": lacks a credential; give one of client_secret, client_secret_file, certificate_file, "),
        ({}, "managed_identity, visa_file"),
        ({"visa_fil": "my.visa"}, '.visa_fil: unknown key; did you mean "visa_file"?'),
        ({"visa_file": 5}, ".visa_file: 5 (whole number) is not text; give the path of a visa, or remove"),
        ({"visa_file": "gone"}, '.visa_file: "gone" (text) cannot be read: No such file'),
        ({"visa_file": "other"}, '.visa_file: "other" (text) holds no visa; give one with a stamp'),
        ({"visa_file": "open.visa"}, '.visa_file: "open.visa" (text) can be read by others (mode 0644)'),
        ({"visa_file": "my.visa", "client_id": None}, ".client_id: is missing; give the application"),
        ({"client_secret": "x", "visa_expires_at": "2027-01-31"}, ".visa_expires_at: belongs to a visa"),
        ({"visa_file": "my.visa", "password": "p", "password_file": "my.visa"}, ".password: is given beside"),
    ],
)  # fmt: skip
def test_its_mistakes_are_told(folder: Path, keys: dict[str, Any], mistake: str) -> None:
    private(folder / "other", "no such thing")
    private(folder / "open.visa", "visa x").chmod(0o644)

    assert mistake in mistakes_of(folder, **keys)


@guarantee(24)
def test_its_secrets_are_shown_nowhere(folder: Path) -> None:
    """Neither in mistakes nor with the settings; the collector's own events are searched for them."""
    settings = settings_of(folder, visa_file="my.visa", password="opensesame")

    assert "opensesame" not in mistakes_of(folder, visa_file=5, password="opensesame")
    assert "opensesame" not in repr(settings)
    assert "opensesame" in list_secrets(settings)


def test_a_secret_under_a_name_that_messages_show_is_refused(folder: Path) -> None:
    class Open(CredentialSettings):
        """A secret that messages would show."""

        pin: SecretText

    with (
        CREDENTIALS.register(replace(visa.SPEC, type="open", aliases=(), section=Open)),
        pytest.raises(Defect, match="messages would show the secret of pin"),
    ):
        settings_of(folder, client_secret="x")


@pytest.mark.parametrize("key", ["client_id", "second", "private_key_file", "visa_file"])
def test_a_key_of_another_kind_is_refused(folder: Path, key: str) -> None:
    section = create_model("Copied", __base__=CredentialSettings, **{key: (Path, ...)})  # type: ignore[call-overload]

    with (
        CREDENTIALS.register(replace(visa.SPEC, type="copied", aliases=(), section=section)),
        pytest.raises(Defect, match=f"{key} has a meaning already"),
    ):
        settings_of(folder, client_secret="x")


def test_a_token_is_asked_for_with_it_and_else_with_the_next(folder: Path) -> None:
    """Entra's refusal of it is about it alone, and what to do about it is its own."""
    refusal = {"error": "invalid_client", "error_codes": [7000215]}

    def entra(received: Received) -> Reply:
        shown = parse_qs(received.body.decode())["client_secret"]
        is_known = shown == ["the-second"]
        answer = {"access_token": "t1", "expires_in": 3600} if is_known else refusal
        return Reply(200 if is_known else 401, json.dumps(answer).encode())

    async def ask(*credentials: CredentialSettings) -> tuple[str, list[str]]:
        async with LoopbackServer(entra) as server, open_session(stall_s=2) as session:
            tenant = settings.tenants[0]
            source = TokenSource(
                session,
                replace(tenant.cloud, login_url=server.url),
                tenant_id=tenant.tenant_id,
                credentials=make_credentials(CLIENT, credentials, session=session, clock=FakeClock()),
                clock=FakeClock(),
            )
            token = await source.current()
            return token, [parse_qs(one.body.decode())["client_secret"][0] for one in server.received]

    settings = settings_of(folder, visa_file="my.visa", second={"client_secret": "the-second"})
    first, second = settings.tenants[0].credentials

    assert asyncio.run(ask(first, second)) == ("t1", [STAMP, "the-second"])
    with pytest.raises(CredentialsRefused) as refused:
        asyncio.run(ask(first))
    assert refused.value.fix == "have credentials.visa_file stamped again"
    assert STAMP not in str(refused.value)


@pytest.mark.parametrize(
    ("days", "damage", "life", "token"),
    [(100, "", OK, OK), (10, "", NOTE, OK), (100, "torn", BROKEN, None)],
)
def test_check_looks_at_its_life_and_tries_it(
    tmp_path: Path, days: int, damage: str, life: object, token: object
) -> None:
    async def main() -> list[Any]:
        async with simulating() as running:
            secret = running.tenants[0].identity.client_secret
            private(tmp_path / "my.visa", f"visa {secret}{damage}")
            ends_at = now() + timedelta(days=days, hours=1)

            def with_visa(document: dict[str, Any]) -> None:
                for section in document["inputs"].values():
                    del section["credentials"]["client_secret"]
                    section["credentials"] |= {"visa_file": "my.visa", "visa_expires_at": ends_at.isoformat()}

            return await groups_of(settings_of_scene(tmp_path, running, with_visa))

    groups = asyncio.run(main())
    [seen] = steps_of(groups, Check.CREDENTIAL)
    tried = [step.verdict for step in steps_of(groups, Check.TOKEN) if step.verdict is OK]

    assert (seen.subject, seen.verdict) == ("visa_file", life)
    assert "the visa is torn" in seen.seen if damage else "(by visa_expires_at)" in seen.seen
    assert tried == [token] * (token is not None)


@pytest.mark.parametrize(
    ("expires_at", "left", "said"),
    [
        (START + timedelta(days=9), "9 d", f"have a new visa stamped and name it in {AT}.visa_file."),
        (None, "unknown", f"set visa_expires_at in {AT}."),
    ],
)
def test_the_health_page_says_when_it_ends(
    folder: Path, expires_at: datetime | None, left: str, said: str
) -> None:
    """The collector warns of it before that, and what it knows is what the page shows."""
    stamped = "" if expires_at is None else f"\n      visa_expires_at: {expires_at:%Y-%m-%dT%H:%M:%SZ}"
    secret = f'client_secret: "{SECRET_OF_THE_FILE}"'
    it = Configured(folder, YAML.replace(secret, f"visa_file: my.visa{stamped}"))
    settings = it.sources.settings
    clock = FakeClock(START)
    ledger = SqliteLedger(settings.state_directory, outputs=frozenset({"lake", "devo"}), now=START)
    watch = ExpiryWatch(settings.tenants, ask=Graph(clock), ledger=ledger, calls=CallsInLine(), clock=clock)
    asyncio.run(watch.look())
    ledger.close()
    it.sources.clock = clock

    shown = it.get("/panel/health/credentials").text

    assert "visa of office365" in shown
    assert said[1:] in shown
    assert left in shown


def given_of(folder: Path, **more: Any) -> Given:
    return Given(out=folder / "new.yaml", tenants=[TENANT], client_id=CLIENT, output="lake", **more)


def test_init_takes_it_from_a_flag(folder: Path) -> None:
    given = given_of(folder, proof_options=[f"visa_file={folder}/my.visa", "visa_expires_at=2027-01-31"])
    private(given.out, write_configuration(collect_answers(given, asks=False).answers))

    assert 'visa_file: "my.visa"   # stamped by the embassy' in given.out.read_text()
    [credential] = load_settings(given.out, environment=os.environ).tenants[0].credentials
    assert credential.type == "visa"
    with pytest.raises(typer.BadParameter, match="password is a secret"):
        collect_answers(given_of(folder, proof_options=["password=x"]), asks=False)


def test_init_asks_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its short name, as the others; each answer is checked."""
    answers = ["worldwide", "sta", "nowhere", str(folder / "my.visa"), ""]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*answers, ""])))

    found = collect_answers(given_of(folder), asks=True).answers.proof

    assert found == {"visa_file": "my.visa"}
    shown = capsys.readouterr().err
    assert "managed, stamp) [certificate]" in shown
    assert '"nowhere" is no file that is there' in shown


def test_the_reference_describes_it() -> None:
    page = render_reference()

    assert page.count("| `visa_file` | the path of a visa |  | The visa, with its stamp. |") == 4
    assert "`federated_token_file`, `visa_file`, `certificate_file`" in page
    assert "visa_file" in example_settings()
    assert "credentials.second.visa_file" in [row.path for row in keys_below("inputs", "")]


def test_the_board_shows_it_and_takes_its_file_in(folder: Path) -> None:
    """By its label in the list, among the keys beside the editor, and as a file to upload."""
    secret = f'client_secret: "{SECRET_OF_THE_FILE}"'
    it = Configured(folder, YAML.replace(secret, 'visa_file: my.visa\n      password: "opensesame"'))

    assert "visa, worldwide" in it.get("/panel/collectors/inputs").text
    editor = it.get("/panel/instance/editor?instance=inputs.office365").text
    assert 'data-upload="credentials.visa_file"' in editor
    assert "opensesame" not in editor
    assert "managed_identity, visa_file" in it.get("/panel/instance/editor?instance=inputs").text
    assert "credentials.visa_file" in it.get("/panel/instance/keys?instance=inputs").text


@guarantee(24)
def test_no_page_names_a_visa_that_lies_on_the_machine(folder: Path) -> None:
    """What a page may name has been uploaded to it."""
    it = Configured(folder, YAML)
    keys = f'tenant_id: "{CLIENT}", client_id: "{CLIENT}", visa_file: my.visa'
    text = f"type: office365\ncredentials: {{{keys}}}\n"

    judged = it.review({"act": "write", "kind": "inputs", "name": "new", "text": text, "is_new": True})

    assert judged["can"] is False
    assert "names a file that this key did not name: upload the file" in str(judged["mistakes"])


def test_a_kind_is_registered_once() -> None:
    with pytest.raises(Defect, match="knows stamp already"), CREDENTIALS.register(visa.SPEC):
        pass
