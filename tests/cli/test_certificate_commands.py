"""`m365watch certificate`: what is written and shown, and the exit codes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner, Result

from m365watch.cli.main import command_line
from m365watch.cli.new_certificate import prefix_of
from m365watch.cli.program import app
from m365watch.clock import SystemClock
from m365watch.config.load import parse_settings
from m365watch.config.settings import CertificateSettings, Secret, Settings
from m365watch.entra.certificate_files import NamedCertificate, examine, named_in
from m365watch.entra.certificate_making import (
    certificate_pem,
    key_pem,
    make_certificate,
    parse_subject,
    pfx_bytes,
)
from m365watch.testing.certificates import Authority

NOW = SystemClock().now()
SECRET = "only-the-owner-knows"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "status.md"
MADE = make_certificate(parse_subject("collector"), bits=2048, days=90, now=NOW)
OTHER = make_certificate(parse_subject("other"), bits=2048, days=90, now=NOW)
GUID = "11111111-1111-1111-1111-111111111111"


@pytest.fixture(autouse=True)
def _shell_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell of whoever runs the tests says is not what a command here is told."""
    monkeypatch.delenv("CONFIG_FILE", raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands are called."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pw", f"{SECRET}\n".encode())
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["certificate", *arguments], env={"COLUMNS": "80", "NO_COLOR": "1"})


def create(*arguments: str) -> Any:
    made = call("create", "--bits", "2048", "--json", *arguments)
    assert made.exit_code == 0, made.stderr
    return json.loads(made.stdout)


def show(*arguments: str, code: int = 0) -> Any:
    shown = call("show", "--json", *arguments)
    assert shown.exit_code == code, shown.output
    return json.loads(shown.stdout)


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def as_main(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Exit code and stderr of the whole program, in which errors become lines."""
    monkeypatch.setattr(sys, "argv", ["m365watch", *arguments])
    with pytest.raises(SystemExit) as ended:
        command_line()
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["create"], ["show"]])
def test_the_help_fits_on_a_screen(arguments: list[str]) -> None:
    """And says with which codes a command ends."""
    shown = call(*arguments, "--help")

    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) <= 45
    assert not arguments or "Exit codes: 0" in shown.stdout


def test_create_writes_key_certificate_and_manifest(folder: Path) -> None:
    """The key for its owner alone, PEM that any tool reads; the folder is made."""
    told = create("--out", "certs/", "--name", "collector", "--days", "30")
    files = {name: Path(path) for name, path in told["files"].items() if path}

    assert files == {
        "certificate": folder / "certs/m365watch.cer",
        "private_key": folder / "certs/m365watch.key",
        "manifest": folder / "certs/m365watch.manifest.json",
    }
    modes = {name: stat.S_IMODE(path.stat().st_mode) for name, path in files.items()}
    assert modes == {"certificate": 0o644, "private_key": 0o600, "manifest": 0o644}
    certificate = x509.load_pem_x509_certificate(files["certificate"].read_bytes())
    assert certificate.subject.rfc4514_string() == told["subject"] == "CN=collector"
    assert told["key"] == {"kind": "RSA", "bits": 2048}
    assert json.loads(files["manifest"].read_text()) == told["manifest"]
    assert told["configuration"] == {
        "certificate_file": str(files["certificate"]),
        "private_key_file": str(files["private_key"]),
    }


def test_the_thumbprints_told_are_those_of_the_file_to_upload(folder: Path) -> None:
    """As hashlib has them over the DER."""
    told = create()
    der = x509.load_pem_x509_certificate((folder / "m365watch.cer").read_bytes()).public_bytes(Encoding.DER)

    sha1, sha256 = hashlib.sha1(der), hashlib.sha256(der)
    assert told["thumbprints"] == {
        "sha1": sha1.hexdigest().upper(),
        "sha256": sha256.hexdigest().upper(),
        "x5t": base64.urlsafe_b64encode(sha1.digest()).rstrip(b"=").decode(),
        "x5t_s256": base64.urlsafe_b64encode(sha256.digest()).rstrip(b"=").decode(),
    }
    (registered,) = told["manifest"]["keyCredentials"]
    assert base64.b64decode(registered["key"]) == der
    assert base64.b64decode(registered["customKeyIdentifier"]) == sha1.digest()


def test_a_key_is_of_3072_bits_unless_another_size_is_asked(folder: Path) -> None:
    """The default of the command, and of no other place."""
    told = json.loads(call("create", "--json").stdout)

    assert told["key"] == {"kind": "RSA", "bits": 3072}
    small = call("create", "--bits", "1024", "--out", "small")
    assert small.exit_code == 2
    assert "Invalid value for '--bits': '1024' is not one of '2048', '3072', '4096'" in small.stderr


def test_with_a_password_key_and_pfx_are_encrypted_and_it_is_told_nowhere(folder: Path) -> None:
    """The configuration is pointed to the file of the password."""
    told = create("--password-file", "pw", "--pfx")
    shown = call("create", "--bits", "2048", "--password-file", "pw", "--pfx", "--force")

    assert told["encrypted"]
    assert told["configuration"]["certificate_password_file"] == str(folder / "pw")
    assert stat.S_IMODE((folder / "m365watch.pfx").stat().st_mode) == 0o600
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (folder / "m365watch.key").read_bytes()
    assert SECRET not in shown.output + json.dumps(told)
    for path in folder.iterdir():
        assert path.name == "pw" or SECRET.encode() not in path.read_bytes()
    for file in ("m365watch.cer", "m365watch.pfx"):
        (found,) = show(file, "--password-file", "pw")["certificates"]
        assert found["private_key"]["belongs"] is True


def test_create_says_what_to_upload_and_what_to_configure(folder: Path) -> None:
    """In words, with whole paths, for somebody who does it for the first time."""
    shown = call("create", "--bits", "2048")

    assert shown.exit_code == 0
    for words in (
        "Certificates & secrets",
        f"Upload certificate: {folder}/m365watch.cer\n",
        f'certificate_file: "{folder}/m365watch.cer"\n',
        f'private_key_file: "{folder}/m365watch.key"\n',
        "m365watch check --config",
    ):
        assert words in shown.stdout
    assert "PRIVATE KEY" not in shown.output


@pytest.mark.parametrize("taken", ["m365watch.cer", "m365watch.key", "m365watch.manifest.json"])
def test_create_replaces_nothing_unasked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    """A key that is overwritten locks the collector out; --force says that this is meant."""
    write(folder / taken, b"old")

    code, said = as_main(["certificate", "create"], monkeypatch, capsys)

    assert code == 1
    assert said == (
        f"error: {folder / taken}: is there already\n"
        "hint: name another place with --out, or replace it with --force\n"
    )
    assert {path.name for path in folder.iterdir()} == {"pw", taken}
    assert (folder / taken).read_bytes() == b"old"
    create("--force")
    assert (folder / taken).read_bytes() != b"old"


@pytest.mark.parametrize(
    ("out", "prefix"),
    [
        ("a", "a"),
        ("certs/", "certs/m365watch"),
        ("there", "there/m365watch"),
        ("certs/a.cer", "certs/a"),
        ("certs/a.pfx", "certs/a"),
        ("certs/tenant.example", "certs/tenant.example"),
    ],
)
def test_out_is_a_prefix_or_a_folder(folder: Path, out: str, prefix: str) -> None:
    """A dot in a name is no suffix, a certificate's suffix is."""
    (folder / "there").mkdir()

    assert prefix_of(out, stem="m365watch") == folder / prefix


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "--name", ""], "give a name of 1 to 64"),
        (["create", "--days", "0"], "--days"),
        (["create", "--password-file", "nowhere"], "nowhere: cannot be read"),
        (["create", "--password-file", "open"], "chmod 600"),
        (["show"], "name a certificate's FILE, or a configuration"),
        (["show", "nowhere.cer"], "there is no such file"),
        (["show", "a.cer", "--key", "nowhere.key"], "there is no such file"),
        (["show", "a.cer", "--config", "c.json"], "give either a FILE or a configuration"),
        (["show", "--config", "c.json", "--key", "a.key"], "a configuration names its own"),
        (["show", "a.cer", "--json", "--manifest"], "give --manifest or --json"),
    ],
)
def test_a_wrong_call_exits_with_2_and_writes_nothing(folder: Path, arguments: list[str], words: str) -> None:
    """One line that says which part, and nothing on stdout."""
    write(folder / "open", b"a pass", 0o644)
    write(folder / "a.cer", certificate_pem(MADE.certificate))
    before = {path.name for path in folder.iterdir()}

    ended = call(*arguments)

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert words in re.sub(r"\s+", " ", ended.stderr)
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER, "pfx"], ids=["pem", "der", "pfx"])
def test_show_finds_the_key_in_the_file_or_beside_it(folder: Path, form: Encoding | str) -> None:
    """By the certificate's own name; a PFX has it inside."""
    if isinstance(form, Encoding):
        file = write(folder / "a.cer", MADE.certificate.public_bytes(form))
        write(folder / "a.key", key_pem(MADE.key, None))
    else:
        file = write(folder / "a.pfx", pfx_bytes(MADE, None))

    (found,) = show(file.name)["certificates"]

    assert found["usable"]
    assert found["private_key"]["belongs"] is True
    assert (found["certificate"]["days_left"], found["warnings"]) == (89, [])


def test_show_says_that_a_key_is_another_certificate_s(folder: Path) -> None:
    """Given or found, and exits with 1."""
    write(folder / "a.cer", certificate_pem(MADE.certificate))
    write(folder / "a.key", key_pem(OTHER.key, None))
    write(folder / "b.key", key_pem(MADE.key, None))

    (found,) = show("a.cer", code=1)["certificates"]
    assert found["private_key"]["belongs"] is False
    assert "another certificate's" in found["faults"][0]
    assert show("a.cer", "--key", "b.key")["usable"]


def test_show_works_without_a_key(folder: Path) -> None:
    """Of a colleague's public file there is none, and that is no fault."""
    write(folder / "a.cer", certificate_pem(MADE.certificate))

    shown = call("show", "a.cer")

    assert shown.exit_code == 0
    assert "none was found; --key FILE names it" in shown.stdout


def test_an_encrypted_key_needs_its_password_to_be_looked_at(folder: Path) -> None:
    """Without one that is a warning, with a wrong one a fault; the password is shown in neither."""
    write(folder / "a.cer", certificate_pem(MADE.certificate))
    write(folder / "a.key", key_pem(MADE.key, SECRET.encode()))
    write(folder / "wrong", b"another pass")

    (found,) = show("a.cer")["certificates"]
    assert "give it with --password-file" in found["warnings"][0]
    (found,) = show("a.cer", "--password-file", "wrong", code=1)["certificates"]
    assert found["faults"] == ["a.key holds an encrypted private key that its password does not open"]
    (found,) = show("a.cer", "--password-file", "pw")["certificates"]
    assert found["private_key"] == {"place": "a.key", "belongs": True, "mode": "0600"}


def test_a_pfx_that_does_not_open_is_a_fault(folder: Path) -> None:
    """Nothing can be said of what is in it."""
    write(folder / "a.pfx", pfx_bytes(MADE, SECRET.encode()))

    (found,) = show("a.pfx", code=1)["certificates"]
    assert found["certificate"] is None
    assert "needs a password" in found["faults"][0]
    shown = call("show", "a.pfx")
    assert (shown.exit_code, "cannot be used" in shown.stdout) == (1, True)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x30\x03abc"])
def test_a_file_that_is_no_certificate_exits_with_1(folder: Path, content: bytes) -> None:
    """One line, no traceback."""
    write(folder / "a.cer", content)

    shown = call("show", "a.cer")

    assert shown.exit_code == 1
    assert "error: it holds" in shown.stdout
    assert "Traceback" not in shown.output


def test_an_expired_certificate_exits_with_1(folder: Path) -> None:
    """And one that ends soon with 0 and a warning."""
    old = make_certificate(parse_subject("old"), bits=2048, days=1, now=NOW - timedelta(days=3))
    soon = make_certificate(parse_subject("soon"), bits=2048, days=29, now=NOW)
    write(folder / "old.cer", certificate_pem(old.certificate))
    write(folder / "soon.cer", certificate_pem(soon.certificate))

    (found,) = show("old.cer", code=1)["certificates"]
    assert found["certificate"]["days_left"] == -3
    assert "it expired at" in found["faults"][0]
    (found,) = show("soon.cer")["certificates"]
    assert "it ends in 28 days" in found["warnings"][0]


def test_a_key_that_others_can_read_is_warned_of(folder: Path) -> None:
    """With the command that ends it."""
    write(folder / "a.cer", certificate_pem(MADE.certificate))
    write(folder / "a.key", key_pem(MADE.key, None), 0o644)

    (found,) = show("a.cer")["certificates"]

    assert "run: chmod 600 a.key" in found["warnings"][0]


def test_the_manifest_alone_can_be_printed(folder: Path) -> None:
    """What create wrote, and show prints, is one and the same."""
    create()

    shown = call("show", "m365watch.cer", "--manifest")

    assert shown.exit_code == 0
    assert json.loads(shown.stdout) == json.loads((folder / "m365watch.manifest.json").read_text())


def test_of_an_unusable_certificate_the_manifest_comes_with_the_fault_on_stderr(folder: Path) -> None:
    """A script that goes on with it has been told."""
    old = make_certificate(parse_subject("old"), bits=2048, days=1, now=NOW - timedelta(days=3))
    write(folder / "old.cer", certificate_pem(old.certificate))

    shown = call("show", "old.cer", "--manifest")

    assert shown.exit_code == 1
    assert shown.stderr.startswith("error: old.cer: it expired at")
    assert len(json.loads(shown.stdout)["keyCredentials"]) == 1


def devo_document(authority: Authority, cert: Path, key: Path) -> dict[str, Any]:
    credentials = {"tenant_id": GUID, "client_id": GUID, "client_secret": "not-a-real-one"}
    config = {
        "address": "127.0.0.1",
        "port": 6514,
        "chain": str(authority.chain),
        "cert": str(cert),
        "key": str(key),
    }
    return {
        "inputs": {"office365": {"credentials": credentials, "services": {"exchange": {}}}},
        "outputs": {"devo": {"type": "devo_platform", "config": config}},
    }


def test_show_looks_at_every_certificate_of_a_configuration(folder: Path) -> None:
    """Those of outputs and their authorities; one of them that expired is exit code 1."""
    authority = Authority(folder)
    for lasts, code in ((timedelta(days=90), 0), (timedelta(days=-2), 1)):
        files = authority.issue("collector", lasts=lasts)
        files.key.chmod(0o600)
        document = devo_document(authority, files.cert, files.key)
        write(folder / "config.json", json.dumps(document).encode())

        client, chain = show("--config", "config.json", code=code)["certificates"]

        assert (client["use"], client["named_by"]) == ("client", ["output devo"])
        assert client["private_key"]["belongs"] is True
        assert client["key_credential"] is None
        assert (chain["use"], chain["file"]) == ("authority", str(authority.chain))
        assert client["usable"] is (code == 0)
    assert "named by     output devo (client)" in call("show", "--config", "config.json").stdout


def test_a_configuration_without_certificates_is_no_failure(folder: Path) -> None:
    """It says so, and exits with 0."""
    document = devo_document(Authority(folder), folder, folder) | {
        "outputs": {"console": {"type": "console"}}
    }
    write(folder / "config.json", json.dumps(document).encode())

    shown = call("show", "--config", "config.json")

    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == "the configuration names no certificate\n"


def settings_with(*credentials: CertificateSettings) -> Settings:
    section = {"credentials": {"tenant_id": [GUID, GUID.replace("1", "2")], "client_id": GUID}}
    section["credentials"]["client_secret"] = "not-a-real-one"
    document = {"inputs": {"office365": section}, "outputs": {"console": {"type": "console"}}}
    settings = parse_settings(document, path=Path("/nowhere/config.json"), environment={})
    tenants = tuple(replace(tenant, credentials=credentials) for tenant in settings.tenants)
    return replace(settings, tenants=tenants)


def test_the_certificate_of_many_tenants_is_looked_at_once(folder: Path) -> None:
    """An application has one, whatever the number of its tenants; two for a rotation are two."""
    first, second = (CertificateSettings(folder / name) for name in ("a.pfx", "b.pfx"))

    named = named_in(settings_with(first, second))

    assert [(one.file.name, one.users) for one in named] == [
        ("a.pfx", ("input office365",)),
        ("b.pfx", ("input office365",)),
    ]


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ({"key": "a.key"}, None),
        ({"key_text": key_pem(MADE.key, None).decode()}, None),
        ({"key_text": key_pem(OTHER.key, None).decode()}, "another certificate's"),
        ({"key": "locked.key"}, "set certificate_password_file"),
        ({"key": "locked.key", "password": SECRET}, None),
        ({"key": "locked.key", "password": "x"}, "its password does not open"),
        ({"key": "nowhere.key"}, "nowhere.key is not there"),
        ({}, "name the key's file as private_key_file"),
    ],
)
def test_a_configured_certificate_needs_the_key_that_is_configured(
    folder: Path, key: dict[str, str], fault: str | None
) -> None:
    """The collector takes no other, so that none that lies beside it counts."""
    write(folder / "a.cer", certificate_pem(MADE.certificate))
    write(folder / "a.key", key_pem(MADE.key, None))
    write(folder / "locked.key", key_pem(MADE.key, SECRET.encode()))
    settings = settings_with(
        CertificateSettings(
            folder / "a.cer",
            key=folder / key["key"] if "key" in key else None,
            key_text=Secret(key["key_text"]) if "key_text" in key else None,
            password=Secret(key["password"]) if "password" in key else None,
        )
    )

    (found,) = [one for named in named_in(settings) for one in examine(named, now=NOW)]

    assert len(found.faults) == (fault is not None)
    assert all(fault in one for one in found.faults if fault)


def test_of_several_certificates_in_a_file_the_key_s_own_is_shown(folder: Path) -> None:
    """A chain may stand in any order."""
    chain = certificate_pem(OTHER.certificate) + certificate_pem(MADE.certificate)
    write(folder / "a.pem", chain)
    write(folder / "a.key", key_pem(MADE.key, None))

    (found,) = examine(NamedCertificate(folder / "a.pem"), now=NOW)

    assert found.certificate == MADE.certificate
    assert found.usable


def test_control_characters_of_a_certificate_reach_no_terminal(folder: Path) -> None:
    """Whoever made it chose its name."""
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "a\x1b[2Jb")])
    made = make_certificate(name, bits=2048, days=90, now=NOW)
    write(folder / "a.cer", certificate_pem(made.certificate))

    assert "\x1b" not in call("show", "a.cer").output


def test_every_key_of_the_documents_stands_in_the_reference_page(folder: Path) -> None:
    """A key that nobody can look up is not stable."""
    page = PAGE.read_text(encoding="utf-8")
    named = {word for span in re.findall(r"`([^`]+)`", page) for word in re.split(r"[.\[\]]+", span)}
    documents = [create("--pfx"), show("m365watch.cer")]

    assert keys_in(documents) - named == set()


def keys_in(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_in, value.values()))
    return set().union(*map(keys_in, value)) if isinstance(value, list) else set()
