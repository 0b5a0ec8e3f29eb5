"""`m365watch certificate show`: what is told of a certificate, its key and its configuration."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import certificate_calls
from certificate_calls import (
    MADE,
    NOW,
    SECRET,
    _shell_of_its_own,  # noqa: F401 - for every test here
    call,
    create,
    show,
    write,
)
from m365watch.auth.certificates.generation import (
    certificate_pem,
    key_pem,
    make_certificate,
    parse_subject,
    pfx_bytes,
)
from m365watch.auth.certificates.inspection import NamedCertificate, examine, named_in
from m365watch.auth.credentials.certificate.spec import CertificateSettings
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings
from m365watch_testing.certificates import Authority
from m365watch_testing.credentials import certificate as certificate_settings

folder = certificate_calls.folder

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "status.md"
OTHER = make_certificate(parse_subject("other"), bits=2048, days=90, now=NOW)
GUID = "11111111-1111-1111-1111-111111111111"


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
    first, second = (certificate_settings(folder / name) for name in ("a.pfx", "b.pfx"))

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
        certificate_settings(
            folder / "a.cer",
            key=folder / key["key"] if "key" in key else None,
            key_text=key.get("key_text"),
            password=key.get("password"),
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
