"""`m365watch consent`: what the commands print, ask and refuse; the way through is tested end to end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from m365watch.cli.program import app
from m365watch.config.models.clouds import CLOUDS

APPLICATION = "99999999-8888-4777-8666-555555555555"
TENANT = "0a1b2c3d-0000-4000-8000-00000000000a"
TEXT = f"""\
inputs:
  office365:
    credentials:
      tenant_id: "<tenant>"
      client_id: {APPLICATION}
      client_secret: made-up.secret
    cloud: gcc-high
outputs: {{c: {{type: console}}}}
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.delenv("CONFIG_FILE", raising=False)
    path = tmp_path / "m365watch.yaml"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


def consent(*words: str, config: Path | None = None) -> Result:
    named = [] if config is None else ["--config", str(config)]
    return CliRunner().invoke(app, ["consent", *words, *named])


def said(ended: Result) -> str:
    return " ".join(ended.stderr.replace("│", " ").split())


def test_one_form_and_one_cloud_print_the_address_alone(config: Path) -> None:
    """It can go on through a pipe."""
    ended = consent("url", "--form", "admin", config=config)

    assert ended.exit_code == 0
    assert ended.stdout == (
        f"https://login.microsoftonline.us/common/adminconsent?client_id={APPLICATION}"
        "&redirect_uri=http%3A%2F%2Flocalhost%3A8400%2Fconsent\n"
    )


def test_all_clouds_and_forms_are_printed_without_a_configuration() -> None:
    """Fifteen addresses, each with its cloud and its form."""
    ended = consent("url", "--client-id", APPLICATION, "--cloud", "all", "--json")

    urls = json.loads(ended.stdout)["urls"]
    assert [(one["cloud"], one["form"]) for one in urls] == [
        (cloud, form) for cloud in CLOUDS for form in ("admin", "code", "v1")
    ]
    assert (
        len({one["url"] for one in urls}) == 13
    )  # worldwide and gcc share the admin page; so do the two .us


def test_the_secret_need_not_be_there_for_an_address(config: Path) -> None:
    """Whoever sends the link need not have it."""
    config.write_text(TEXT.replace("made-up.secret", "${NOT_SET}"))

    assert consent("url", "--form", "code", config=config).exit_code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["url"], "no configuration: looked for"),
        (["url", "--client-id", "x"], '--client-id: "x" is not a GUID'),
        (["url", "--client-id", APPLICATION, "--cloud", "mars"], '--cloud: "mars" is none'),
        (["url", "--client-id", APPLICATION, "--form", "x"], '--form: "x" is none; give admin, code, v1'),
        (["url", "--client-id", APPLICATION, "--tenant", "a b"], "is neither a GUID nor a domain"),
        (["url", "--client-id", APPLICATION, "--keep", "k"], "--keep is for one question"),
        (["url", "--client-id", APPLICATION, "--redirect-uri", "http://soc.example/"], "is http"),
        (["serve"], "nobody is there to be asked; add --yes"),
        (["serve", "--yes", "--redirect-uri", "https://soc.example/"], "is not served from here"),
        (["exchange", "--code", "x"], "nobody is there to be asked; add --yes"),
    ],
)
def test_a_call_that_will_not_do_is_refused(words: list[str], told: str) -> None:
    """Exit code 2, before anybody is asked anything."""
    ended = consent(*words)

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert told in said(ended)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give the whole REDIRECT in quotes, - to have it read from standard input, or --code"),
        (["http://localhost:8400/consent", "--code", "x"], "give the whole REDIRECT in quotes"),
        (["-"], "standard input has no line; give it the address that the browser shows"),
        (["http://localhost:8400/consent"], "REDIRECT has no query"),
        (["http://localhost:1/x?code=y"], "REDIRECT does not start with http://localhost:8400/consent"),
        (["--code", "x", "--keep", "nowhere"], "--keep: nowhere is not there"),
    ],
)
def test_an_answer_that_will_not_do_is_refused(config: Path, words: list[str], told: str) -> None:
    """Exit code 2; nothing is sent and nothing is written."""
    ended = consent("exchange", *words, "--yes", config=config)

    assert (ended.exit_code, config.read_text()) == (2, TEXT)
    assert told in said(ended)


def test_what_was_kept_for_another_application_is_not_used(config: Path, tmp_path: Path) -> None:
    """Nor what others could read."""
    kept = tmp_path / "kept"
    consent("url", "--client-id", APPLICATION, "--form", "code", "--keep", str(kept))

    other = consent("exchange", "--code", "x", "--keep", str(kept), "--yes", config=config)
    kept.chmod(0o644)
    readable = consent("exchange", "--code", "x", "--keep", str(kept), "--yes", config=config)

    assert "belongs to another application or cloud" in said(other)
    assert "can be read by others" in said(readable)


def test_a_refusal_that_was_brought_by_hand_has_its_cure(config: Path) -> None:
    """Exit code 1, without a request to anybody."""
    address = "http://localhost:8400/consent?error=access_denied&error_description=AADSTS65004%3A+no"
    ended = CliRunner().invoke(
        app, ["consent", "exchange", address, "--form", "code", "--yes", "--config", str(config)]
    )

    assert "nobody has consented: access_denied" in str(ended.exception)
    assert "let an administrator" in str(ended.exception)


def test_the_code_goes_by_the_network_of_the_input(config: Path) -> None:
    """A proxy that is away is what the exchange meets, and Entra is not."""
    config.write_text(TEXT.replace("    cloud:", "    network: {proxy: 'http://127.0.0.1:1'}\n    cloud:"))
    ended = CliRunner().invoke(
        app, ["consent", "exchange", "--code", "x", "--no-write", "--config", str(config)]
    )

    assert "the proxy cannot be reached" in str(ended.exception)


def test_the_timeout_ends_the_waiting(config: Path) -> None:
    """With the line that says how long it was."""
    ended = consent("serve", "--port", "0", "--timeout", "0.1", "--no-write", config=config)

    assert "no answer has come in 0.1 s" in str(ended.exception)
    assert ended.stdout.startswith("https://login.microsoftonline.us/common/adminconsent?")
    assert "made-up.secret" not in ended.output
