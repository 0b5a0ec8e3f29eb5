"""What an application may prove itself with, and what of it is refused before a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from m365watch.auth.credentials.certificate.spec import CertificateSettings
from m365watch.auth.credentials.client_secret.spec import ClientSecretSettings
from m365watch.auth.credentials.managed_identity.spec import ManagedIdentitySettings
from m365watch.config.loader import parse_settings
from m365watch.config.models.credentials import CredentialSettings
from m365watch_simulator.entra.federation import Issuer
from m365watch_testing.applications import ApplicationCertificate, write_private
from m365watch_testing.clock import START
from m365watch_testing.credentials import certificate, federated_token, managed_identity
from settings_documents import (
    APPLICATION,
    OTHER_TENANT,
    SECRET,
    TENANT,
    Document,
    filled_in,
    mistakes_of,
    settings_of,
)

AT = "inputs.office365.credentials"
OWN = ApplicationCertificate(START - timedelta(days=1))
KEY = OWN.key_pem().decode()
GIVE = (
    "give one of client_secret, client_secret_file, certificate_file, federated_token_file, managed_identity"
)


def proving(**keys: Any) -> Document:
    """A document whose credentials have these keys; without a secret unless one is given."""
    given: dict[str, Any] = {"tenant_id": TENANT, "client_id": APPLICATION, **keys}
    return filled_in(credentials={key: value for key, value in given.items() if value is not None})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With every file that a test may name."""
    write_private(tmp_path / "cert.pem", OWN.pem).chmod(0o644)
    write_private(tmp_path / "key.pem", KEY)
    write_private(tmp_path / "both.pem", KEY.encode() + OWN.pem)
    write_private(tmp_path / "both.pfx", OWN.pfx("pass"))
    write_private(tmp_path / "token", Issuer("http://127.0.0.1").token(START))
    write_private(tmp_path / "empty", "")
    write_private(tmp_path / "text", "nothing of the kind")
    return tmp_path


def found(folder: Path, environment: dict[str, str] | None = None, **keys: Any) -> list[CredentialSettings]:
    settings = settings_of(proving(**keys), path=folder / "c.json", environment=environment)
    return list(settings.tenants[0].credentials)


def refused(folder: Path, environment: dict[str, str] | None = None, **keys: Any) -> list[str]:
    """The mistakes, each without what all of them begin with."""
    lines = mistakes_of(proving(**keys), path=folder / "c.json", environment=environment)
    return [line.removeprefix(f"{AT}.").removeprefix(f"{AT}: ") for line in lines]


def test_a_certificate_has_its_key_beside_it_in_it_or_in_the_environment(folder: Path) -> None:
    """Paths start at the configuration's folder; nothing of the key is read yet."""
    [beside] = found(folder, certificate_file="cert.pem", private_key_file="key.pem")
    [within] = found(folder, certificate_file="both.pem")
    environment = {"P": "pass", "K": KEY.replace("\n", "\\n")}
    [pfx] = found(folder, environment, certificate_file="both.pfx", certificate_password="${P}")
    [text] = found(folder, environment, certificate_file="cert.pem", private_key="${K}")
    assert all(isinstance(one, CertificateSettings) for one in (beside, within, pfx, text))
    assert isinstance(text, CertificateSettings)
    assert text.private_key is not None
    assert isinstance(pfx, CertificateSettings)

    assert beside == certificate(folder / "cert.pem", key=folder / "key.pem")
    assert within == certificate(folder / "both.pem")
    assert pfx.password == b"pass"
    assert text.private_key.get_secret_value() == KEY
    assert "PRIVATE" not in repr(text)


def test_a_key_in_the_environment_may_have_its_line_breaks(folder: Path) -> None:
    """An orchestrator hands on the file as it is."""
    [text] = found(folder, {"K": KEY}, certificate_file="cert.pem", private_key="${K}")

    assert isinstance(text, CertificateSettings)
    assert text.private_key is not None
    assert text.private_key.get_secret_value() == KEY


def test_several_credentials_are_tried_in_one_order(folder: Path) -> None:
    """What needs looking after least comes first, and all of `second` after the first."""
    given = found(
        folder,
        client_secret=SECRET,
        client_secret_expires_at="2027-01-31",
        certificate_file="both.pem",
        federated_token_file="token",
        managed_identity=True,
        assertion_audience="https://login.windows.net/{tenant}/oauth2/token",
        second={"client_secret": "another", "certificate_file": "both.pem"},
    )

    assert [one.name for one in given] == [
        "managed_identity",
        "federated_token_file",
        "certificate_file",
        "client_secret",
        "second.certificate_file",
        "second.client_secret",
    ]
    assert given[1] == federated_token(folder / "token")
    assert isinstance(given[2], CertificateSettings)
    assert isinstance(given[4], CertificateSettings)
    assert isinstance(given[3], ClientSecretSettings)
    assert (
        given[2].assertion_audience
        == given[4].assertion_audience
        == "https://login.windows.net/{tenant}/oauth2/token"
    )
    assert given[3].client_secret_expires_at == datetime(2027, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("keys", "client_id", "vouches"),
    [
        ({"managed_identity": True, "client_id": None}, None, False),
        ({"managed_identity": "true", "client_id": None}, None, False),
        ({"managed_identity": OTHER_TENANT.upper(), "client_id": None}, OTHER_TENANT, False),
        ({"managed_identity": True}, None, True),
        ({"managed_identity": OTHER_TENANT}, OTHER_TENANT, True),
    ],
)
def test_a_managed_identity_reads_by_itself_or_vouches(
    folder: Path, keys: dict[str, Any], client_id: str | None, vouches: bool
) -> None:
    """`client_id` is an application's, and the identity then stands for it."""
    [tenant] = settings_of(proving(**keys), path=folder / "c.json").tenants

    assert tenant.credentials == (managed_identity(client_id),)
    assert bool(tenant.client_id) == vouches


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, ("http://169.254.169.254", None)),
        (
            {"IDENTITY_ENDPOINT": "http://169.254.129.2:8081/msi/token/", "IDENTITY_HEADER": "h"},
            ("http://169.254.129.2:8081/msi/token", "h"),
        ),
        ({"IDENTITY_ENDPOINT": "http://localhost:42356/msi/token"}, ("http://169.254.169.254", None)),
        ({"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:8401/"}, ("http://127.0.0.1:8401", None)),
    ],
)
def test_the_environment_says_where_the_identity_is(
    folder: Path, environment: dict[str, str], endpoint: tuple[str, str | None]
) -> None:
    """App Service by its two variables, else IMDS; another place on loopback only."""
    [one] = found(folder, environment, managed_identity=True)
    assert isinstance(one, ManagedIdentitySettings)
    header = one.endpoint.header

    assert (one.endpoint.url, header and header.reveal()) == endpoint


@guarantee(23)
@pytest.mark.parametrize(
    "environment",
    [
        {"IDENTITY_ENDPOINT": "http://elsewhere.example/token", "IDENTITY_HEADER": "h"},
        {"IDENTITY_ENDPOINT": "http://10.0.0.1/token", "IDENTITY_HEADER": "h"},
        {"IDENTITY_ENDPOINT": "https://127.0.0.1/token", "IDENTITY_HEADER": "h"},
        {"IDENTITY_ENDPOINT": "http://u@127.0.0.1/token", "IDENTITY_HEADER": "h"},
        {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://169.254.1.1"},
        {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://elsewhere.example"},
    ],
)
def test_no_stranger_is_asked_for_an_identity(folder: Path, environment: dict[str, str]) -> None:
    """Who sets a variable gets no tokens of his own making used, nor App Service's secret sent to him."""
    [line] = refused(folder, environment, managed_identity=True)

    assert line.startswith("managed_identity: cannot be had: the variable ")
    assert found(folder, environment, client_secret=SECRET)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({}, f"lacks a credential; {GIVE}"),
        ({"managed_identity": False}, f"lacks a credential; {GIVE}"),
        ({"client_secret": SECRET, "second": {}}, f"second: lacks a credential; {GIVE}"),
        ({"client_secret": SECRET, "second": None}, None),
        ({"client_secret": SECRET, "second": {"private_key": KEY}}, f"second: lacks a credential; {GIVE}"),
        ({"client_secret": SECRET, "client_id": None}, "client_id: is missing; give the application"),
        ({"certificate_file": "both.pem", "client_id": None}, "client_id: is missing; give the"),
        (
            {"managed_identity": True, "client_id": None, "second": {"client_secret": SECRET}},
            "client_id: is missing; give the",
        ),
        (
            {"managed_identity": True, "client_id": None, "tenant_id": [TENANT, OTHER_TENANT]},
            "tenant_id: names several tenants, and a managed identity reads its own alone; give",
        ),
        ({"managed_identity": APPLICATION}, "client_id: is that of the managed identity itself; remove"),
        ({"managed_identity": "yes"}, 'managed_identity: "yes" (text) is neither true nor a GUID; give'),
        ({"certificate_file": "gone.pem"}, 'certificate_file: "gone.pem" (text) cannot be read: No such'),
        ({"certificate_file": "empty"}, 'certificate_file: "empty" (text) is empty'),
        ({"certificate_file": "text"}, 'certificate_file: "text" (text) holds no certificate; give'),
        ({"certificate_file": "cert.pem"}, "private_key_file: is missing; certificate_file holds"),
        (
            {"certificate_file": "cert.pem", "private_key_file": "text"},
            'private_key_file: "text" (text) holds no private key in PEM; give the key',
        ),
        (
            {"certificate_file": "cert.pem", "private_key": "${SECRET}"},
            "private_key: holds no private key in PEM; give the text of the whole file",
        ),
        (
            {"certificate_file": "cert.pem", "private_key": "${KEY}", "private_key_file": "key.pem"},
            "private_key: is given beside private_key_file; keep one of the two",
        ),
        (
            {"client_secret": SECRET, "private_key_file": "key.pem"},
            "private_key_file: belongs to a certificate; give certificate_file, or remove the key",
        ),
        (
            {"managed_identity": True, "client_secret_expires_at": "2027-01-01"},
            "client_secret_expires_at: belongs to a client secret; give client_secret, or remove the key",
        ),
        (
            {"client_secret": SECRET, "assertion_audience": "https://login.windows.net/x"},
            "assertion_audience: belongs to a certificate; give certificate_file, or remove the key",
        ),
        (
            {"certificate_file": "both.pem", "assertion_audience": "login.windows.net"},
            'assertion_audience: "login.windows.net" (text) is not an https URL; give',
        ),
        ({"federated_token_file": "gone"}, 'federated_token_file: "gone" (text) cannot be read: No'),
        ({"federated_token_file": "~/t"}, 'federated_token_file: "~/t" (text) starts with ~'),
        ({"certificate_fil": "x"}, 'certificate_fil: unknown key; did you mean "certificate_file"?'),
        ({"client_secret": SECRET, "second": SECRET}, "second: *** (text) is of the wrong kind; give"),
    ],
)  # fmt: skip
def test_credentials_that_prove_nothing_are_refused(
    folder: Path, keys: dict[str, Any], line: str | None
) -> None:
    """One line for each mistake, with the key's path and what would be right."""
    environment = {"KEY": KEY, "SECRET": SECRET}
    if line is None:
        assert len(found(folder, environment, **keys)) == 1
        return
    mistakes = refused(folder, environment, **keys)

    assert [mistake for mistake in mistakes if mistake.startswith(line)] != [], mistakes
    assert SECRET not in "".join(mistakes)
    assert "PRIVATE KEY-" not in "".join(mistakes)


@guarantee(25)
@pytest.mark.parametrize("name", ["key.pem", "both.pem", "both.pfx"])
def test_a_private_key_that_others_can_read_is_refused(folder: Path, name: str) -> None:
    """Wherever it is: in a file of its own, beside the certificate, in a PFX without a password, too."""
    (folder / name).chmod(0o640)
    keys: dict[str, Any] = {"certificate_file": "cert.pem", "private_key_file": name}
    if name != "key.pem":
        keys = {"certificate_file": name}
    [line] = refused(folder, **keys)

    assert f"can be read by others (mode 0640); run: chmod 600 {folder}/{name}" in line


@guarantee(25)
def test_what_others_can_read_is_let_pass_when_told_and_each_start_says_so(folder: Path) -> None:
    """Loudly: the switch itself is warned of, and each file."""
    for name in ("key.pem", "secret"):
        write_private(folder / name, KEY if name == "key.pem" else SECRET).chmod(0o644)
    document = proving(
        certificate_file="cert.pem", private_key_file="key.pem", client_secret_file="secret"
    ) | {"globals": {"allow_readable_secrets": True}}
    warnings = settings_of(document, path=folder / "c.json").warnings

    assert [line.partition(": UNSAFE: ")[0] for line in warnings] == [
        "globals.allow_readable_secrets",
        f"{AT}.client_secret_file",
        f"{AT}.private_key_file",
    ]
    assert all("chmod 600" in line for line in warnings[1:])


def test_a_federated_token_that_anybody_can_read_is_a_warning(folder: Path) -> None:
    """Kubernetes writes it 0644 where the pod has no fsGroup; through a group it is let be."""
    seen = {}
    for mode in (0o600, 0o640, 0o440, 0o644):
        (folder / "token").chmod(mode)
        settings = settings_of(proving(federated_token_file="token"), path=folder / "c.json")
        seen[mode] = len(settings.warnings)

    assert seen == {0o600: 0, 0o640: 0, 0o440: 0, 0o644: 1}


def test_who_only_reads_needs_no_file(tmp_path: Path) -> None:
    """`status` beside a running collector, as another user."""
    document = proving(
        certificate_file="gone.pem",
        private_key="${NOT_SET}",
        federated_token_file="gone",
        client_secret="keyring:m365watch/contoso",
        managed_identity=True,
        second={"certificate_file": "gone", "certificate_password_file": "gone"},
    )
    environment = {"IDENTITY_ENDPOINT": "nonsense", "IDENTITY_HEADER": "h"}
    settings = parse_settings(document, path=tmp_path / "c.json", environment=environment, for_reading=True)

    assert len(settings.tenants[0].credentials) == 5
    assert settings.tenants[0].credentials[0] == managed_identity()


def test_an_endpoint_can_be_chosen(folder: Path) -> None:
    """For the input, and so for any cloud."""
    document = proving(client_secret=SECRET)
    chosen = []
    for given in ({}, {"token_endpoint": "v1"}, {"token_endpoint": "v2", "cloud": "gcc-high"}):
        document["inputs"]["office365"] |= given
        cloud = settings_of(document).tenants[0].cloud
        chosen.append((cloud.name, cloud.token_endpoint))

    assert chosen == [("worldwide", None), ("worldwide", "v1"), ("gcc-high", "v2")]
