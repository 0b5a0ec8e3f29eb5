"""`m365watch init`: flags in, a configuration out that loads; answers checked one by one on a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from patience import PATIENCE_S
from promises import guarantee
from typer.testing import CliRunner, Result

from m365watch.auth.credentials.client_secret.spec import ClientSecretSettings
from m365watch.cli.program import app
from m365watch.common.errors import SettingsRefused
from m365watch.config.loader import load_settings
from m365watch.config.models.clouds import CLOUDS
from m365watch.config.template import Answers, write_configuration
from m365watch.outputs.lake.spec import LakeSection

APPLICATION = "99999999-8888-4777-8666-555555555555"
TENANT = "0a1b2c3d-0000-4000-8000-00000000000a"
OTHER = "0a1b2c3d-0000-4000-8000-00000000000b"
SECRET = "made~up.secret-value"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    return tmp_path


def init(*flags: str) -> Result:
    return CliRunner().invoke(app, ["init", "--no-check", *flags])


def output_flags(kind: str, *options: str) -> list[str]:
    return ["--output", kind, *(word for option in options for word in ("--output-option", option))]


BASIC = ("--client-id", APPLICATION, "--secret-file", "secret")


def test_flags_alone_make_a_configuration_that_loads(folder: Path) -> None:
    """The secret stays in its file; the file is its owner's."""
    ended = init(*BASIC, "--tenant", TENANT.upper(), "--tenant", OTHER, "--service", "exchange")

    assert ended.exit_code == 0
    path = folder / "m365watch.yaml"
    settings = load_settings(path, environment={})
    assert [tenant.tenant_id for tenant in settings.tenants] == [TENANT, OTHER]
    assert settings.tenants[0].cloud == CLOUDS["worldwide"]
    assert [str(one.service) for one in settings.tenants[0].services] == ["exchange"]
    assert settings.warnings == ()
    (credential,) = settings.tenants[0].credentials
    assert isinstance(credential, ClientSecretSettings)
    assert credential.client_secret.get_secret_value() == SECRET
    assert isinstance(settings.outputs[0], LakeSection)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SECRET not in path.read_text() + ended.output
    assert ended.stdout.splitlines() == [
        "next:",
        "  m365watch check --config m365watch.yaml",
        "  m365watch run --config m365watch.yaml",
        "  m365watch status --config m365watch.yaml",
    ]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_cloud_can_be_named(folder: Path, cloud: str) -> None:
    """As in the file itself."""
    init(*BASIC, "--tenant", TENANT, "--cloud", cloud)

    assert load_settings(folder / "m365watch.yaml", environment={}).tenants[0].cloud == CLOUDS[cloud]


@pytest.mark.parametrize(
    ("flags", "output"),
    [
        (["--output", "files"], "files"),
        (["--output", "console"], "console"),
        (
            [
                "--output",
                "devo-http",
                "--output-option",
                "endpoint=https://http-eu.devo.io",
                "--output-option",
                "domain=soc",
                "--output-option",
                "token_file=secret",
            ],
            "devo_http",
        ),
        (
            [
                "--output",
                "syslog",
                "--output-option",
                "address=127.0.0.1",
                "--output-option",
                "port=6514",
                "--output-option",
                "transport=tcp",
            ],
            "syslog",
        ),
    ],
)
def test_every_output_can_be_named(folder: Path, flags: list[str], output: str) -> None:
    """With the options that it needs."""
    assert init(*BASIC, "--tenant", TENANT, *flags).exit_code == 0

    assert load_settings(folder / "m365watch.yaml", environment={}).outputs[0].name == output


@guarantee(24)
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([*BASIC, "--tenant", "contoso.com"], '--tenant: "contoso.com" is a domain'),
        ([*BASIC, "--tenant", "x"], '--tenant: "x" is not a GUID'),
        (["--client-id", "x", "--secret-file", "secret"], '--client-id: "x" is not a GUID'),
        (["--secret-file", "secret"], "--client-id is missing"),
        (
            ["--client-id", APPLICATION],
            "a credential is missing: one of --certificate, --create-certificate,",
        ),
        ([*BASIC, "--managed-identity", "system"], "give one credential"),
        ([*BASIC, "--cloud", "mars"], '--cloud: "mars" is none'),
        ([*BASIC, "--cloud", "custom"], "needs --login-url and --management-url"),
        ([*BASIC, "--login-url", "http://x.example", "--management-url", "https://x.example"], "unencrypted"),
        ([*BASIC, "--service", "teams"], '--service: "teams" is none'),
        ([*BASIC, "--output", "kafka"], '--output: "kafka" is none'),
        ([*BASIC, "--output", "syslog"], "address=... is missing"),
        ([*BASIC, "--output-option", "x"], "give KEY=VALUE"),
        ([*BASIC, "--output-option", "key_password=s3cr3t"], "give key_password_file=FILE"),
        (["--client-id", APPLICATION, "--secret-file", "nowhere"], '--secret-file: "nowhere" is no file'),
        ([*BASIC, "--secret-expires-at", "31.12.2027"], "is not an instant; give a date such as 2027-11-17"),
        (["--managed-identity", "mine"], '"mine" is neither "system" nor the client ID'),
        ([*BASIC, "--out", "nowhere/x.yaml"], "is no folder"),
        ([*BASIC, "--out", "."], "is a folder"),
        ([*BASIC, "--out", "m365watch.json"], "name it .yaml"),
    ],
)
def test_a_flag_that_will_not_do_writes_nothing(folder: Path, flags: list[str], words: str) -> None:
    """Exit code 2, and a line that says what would."""
    ended = init(*flags)

    assert ended.exit_code == 2
    assert "s3cr3t" not in ended.stderr
    assert words in " ".join(ended.stderr.replace("│", " ").split())
    assert sorted(path.name for path in folder.iterdir()) == ["secret"]


@guarantee(25)
@pytest.mark.parametrize(
    ("content", "mode", "flag", "words"),
    [
        ("a-secret", 0o644, "--secret-file", "can be read by others (mode 0644); run: chmod 600"),
        ("", 0o600, "--secret-file", "is empty"),
        ("no certificate", 0o600, "--certificate", "holds no certificate"),
    ],
)
def test_a_file_that_will_not_serve_writes_nothing(
    folder: Path, content: str, mode: int, flag: str, words: str
) -> None:
    """What a run would refuse is refused here, and named."""
    (folder / "given").write_text(content)
    (folder / "given").chmod(mode)
    ended = init("--client-id", APPLICATION, "--tenant", TENANT, flag, "given")

    assert isinstance(ended.exception, SettingsRefused)
    assert words in str(ended.exception)
    assert not (folder / "m365watch.yaml").exists()


def test_every_credential_can_be_named(folder: Path) -> None:
    """Certificate and key, another issuer's token, a managed identity; a certificate is made on request."""
    (folder / "token").write_text("x")
    application = ["--client-id", APPLICATION, "--tenant", TENANT, "--yes"]
    kinds = []
    for flags in (
        ["--create-certificate", *application],
        ["--certificate", "m365watch.cer", "--private-key", "m365watch.key", *application],
        ["--federated-token-file", "token", *application],
        ["--managed-identity", "system", "--tenant", TENANT, "--yes"],
        ["--secret-file", "secret", "--secret-expires-at", "2027-11-17", *application],
    ):
        assert init(*flags).exit_code == 0
        (tenant,) = load_settings(folder / "m365watch.yaml", environment={}).tenants
        kinds += [type(one).__name__ for one in tenant.credentials]

    assert kinds == [
        "CertificateSettings",
        "CertificateSettings",
        "FederatedTokenSettings",
        "ManagedIdentitySettings",
        "ClientSecretSettings",
    ]
    assert (folder / "m365watch.key").stat().st_mode & 0o777 == 0o600


def test_what_would_not_load_is_not_written(folder: Path) -> None:
    """An option that the output does not know is told by its path."""
    ended = CliRunner().invoke(
        app, ["init", *BASIC, "--tenant", TENANT, "--output-option", "color=blue"], standalone_mode=False
    )

    assert "outputs.lake.config.color: unknown key" in str(ended.exception)
    assert not (folder / "m365watch.yaml").exists()


def test_a_file_that_is_there_stays_unless_somebody_says_so(folder: Path) -> None:
    """Nobody is there to be asked: --yes, or another name."""
    (folder / "m365watch.yaml").write_text("mine\n")

    assert init(*BASIC, "--tenant", TENANT).exit_code == 2
    assert (folder / "m365watch.yaml").read_text() == "mine\n"
    assert init(*BASIC, "--tenant", TENANT, "--yes").exit_code == 0
    assert "mine" not in (folder / "m365watch.yaml").read_text()


def test_json_tells_the_same(folder: Path) -> None:
    """One document, with the commands to go on with."""
    document = json.loads(init(*BASIC, "--json").stdout)

    assert document == {
        "schema": 1,
        "config": str(folder / "m365watch.yaml"),
        "tenants": [],
        "exit_code": None,
        "check": None,
        "next": [
            "m365watch consent serve --config m365watch.yaml",
            "m365watch run --config m365watch.yaml",
            "m365watch status --config m365watch.yaml",
        ],
    }


def test_odd_characters_are_written_so_that_they_are_read_back() -> None:
    """Whatever a path is called."""
    odd = 'a "b" \\ #c: é \u2028'
    text = write_configuration(Answers(APPLICATION, {"client_secret_file": odd}, (TENANT,)))

    assert yaml.safe_load(text)["inputs"]["office365"]["credentials"]["client_secret_file"] == odd


def test_a_terminal_is_asked_until_each_answer_will_do(folder: Path) -> None:
    """Defaults by Enter; what is typed as a secret is never shown, and lies in a file of its own."""
    answers = [
        "",
        "sec",
        OTHER,
        SECRET,
        "soon",
        "2027-11-17",
        "nonsense",
        APPLICATION,
        "contoso.com",
        "",
        "x",
        "",
        "n",
    ]

    shown, code = on_terminal(["init", "--out", "new.yaml"], answers)

    assert code == 0
    assert "Let the tenant's administrator consent now? [y/N]" in shown
    assert "that looks like the Secret ID; paste what stands under Value" in shown
    assert '"soon" is not an instant' in shown
    assert '"nonsense" is not a GUID' in shown
    assert '"contoso.com" is a domain' in shown
    assert '"x" is none of these' in shown
    assert SECRET not in shown
    assert (folder / "new.secret").read_text() == SECRET + "\n"
    assert (folder / "new.secret").stat().st_mode & 0o777 == 0o600
    assert 'client_secret_expires_at: "2027-11-17T00:00:00Z"' in (folder / "new.yaml").read_text()
    assert 'client_secret_file: "new.secret"' in (folder / "new.yaml").read_text()
    assert 'tenant_id: "<tenant>"' in (folder / "new.yaml").read_text()


def on_terminal(arguments: list[str], answers: list[str]) -> tuple[str, int]:
    """What a command shows on a terminal where each question gets the next answer, and its exit code."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "m365watch.cli.main", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = ""
    while part := _read(terminal):
        shown += part
        if shown.endswith(": ") and answers:
            os.write(terminal, f"{answers.pop(0)}\n".encode())
    os.close(terminal)
    return shown, process.wait(timeout=PATIENCE_S)


def _read(terminal: int) -> str:
    """What is shown next; "" once the command has ended."""
    try:
        ready = select.select([terminal], [], [], 20)[0]
        return os.read(terminal, 65_536).decode() if ready else ""
    except OSError:
        return ""
