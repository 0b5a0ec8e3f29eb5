"""`m365watch certificate`: what is written and shown, and the exit codes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import certificate_calls
from certificate_calls import (
    MADE,
    SECRET,
    _shell_of_its_own,  # noqa: F401 - for every test here
    call,
    create,
    show,
    write,
)
from m365watch.auth.certificates.generation import certificate_pem
from m365watch.cli.main import command_line
from m365watch.cli.setup.certificate_files import prefix_of

folder = certificate_calls.folder


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
