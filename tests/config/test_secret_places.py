"""Where secrets may lie: files and who may read them, systemd, Docker, Kubernetes, the keyring."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
from promises import guarantee

from m365watch.common.file_access import denied, read_with_status
from m365watch.config.secrets import FileGuard, guard_for, read_guarded_secret, read_keyring
from settings_documents import SECRET, filled_in, mistakes_of, secret_of, settings_of

AT = "inputs.office365.credentials.client_secret"
US, ROOT = 1_000, 0


def status_of(mode: int, owner: int = US) -> os.stat_result:
    """What the system would say of a regular file."""
    return os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))


GUARD = FileGuard(credentials_folder=Path("/run/credentials/m365watch.service"), user=US)


@guarantee(25)
@pytest.mark.parametrize(
    ("path", "mode", "owner", "passes"),
    [
        ("/etc/m365watch/secret", 0o600, US, True),
        ("/etc/m365watch/secret", 0o400, US, True),
        ("/etc/m365watch/secret", 0o640, US, False),
        ("/etc/m365watch/secret", 0o604, US, False),
        # systemd: the group's bits are the mask of an access list.
        ("/run/credentials/m365watch.service/secret", 0o400, ROOT, True),
        ("/run/credentials/m365watch.service/secret", 0o440, ROOT, True),
        ("/run/credentials/m365watch.service/secret", 0o444, ROOT, False),
        ("/run/credentials/another.service/secret", 0o444, ROOT, False),
        # Docker: everybody in the container, which is the collector.
        ("/run/secrets/m365_secret", 0o444, ROOT, True),
        ("/run/secrets/m365_secret", 0o664, ROOT, False),
        ("/run/secrets/../m365_secret", 0o444, ROOT, False),
        # Kubernetes: root's file, read through the pod's fsGroup.
        ("/etc/m365watch/secret", 0o440, ROOT, True),
        ("/etc/m365watch/secret", 0o640, ROOT, True),
        ("/etc/m365watch/secret", 0o444, ROOT, False),
        ("/etc/m365watch/secret", 0o660, ROOT, False),
    ],
)
def test_a_file_is_its_owners_unless_the_machine_handed_it_over(
    path: str, mode: int, owner: int, passes: bool
) -> None:
    """Each way of handing a secret to a service has a mode of its own that nobody in it can change."""
    status = status_of(mode, owner)
    if passes:
        assert GUARD.check(Path(path), status) is None
        return
    with pytest.raises(ValueError, match=f"by others \\(mode {mode:04o}\\); run: chmod 600 "):
        GUARD.check(Path(path), status)


@pytest.mark.parametrize(
    ("path", "mode", "is_odd"),
    [
        ("/srv/token", 0o600, False),
        ("/srv/token", 0o440, False),
        ("/srv/token", 0o644, True),
        ("/run/secrets/azure/tokens/azure-identity-token", 0o644, False),
        ("/run/secrets/azure/tokens/azure-identity-token", 0o666, True),
    ],
)
def test_a_token_is_odd_where_anybody_outside_could_read_it(path: str, mode: int, is_odd: bool) -> None:
    """A pod's own folder is seen by the pod alone."""
    assert (GUARD.judge_token(Path(path), status_of(mode, ROOT)) is not None) == is_odd


def test_root_has_no_group_that_would_excuse_a_mode() -> None:
    """As root, a file of root's that a group can read is open to that group."""
    with pytest.raises(ValueError, match="mode 0640"):
        FileGuard(user=ROOT).check(Path("/etc/secret"), status_of(0o640, ROOT))


def test_a_secret_of_systemds_is_named_by_its_variable(tmp_path: Path) -> None:
    """`LoadCredential=`: `${CREDENTIALS_DIRECTORY}/name` in any key that takes a file."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "m365").write_text(SECRET)
    (folder / "m365").chmod(0o440)
    document = filled_in()
    credentials = document["inputs"]["office365"]["credentials"]
    del credentials["client_secret"]
    credentials["client_secret_file"] = "${CREDENTIALS_DIRECTORY}/m365"
    settings = settings_of(document, environment={"CREDENTIALS_DIRECTORY": str(folder)})

    assert secret_of(settings.tenants[0]) == SECRET
    assert settings.warnings == ()


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    """Kubernetes' files are links; a link in systemd's folder excuses nothing outside of it."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (tmp_path / "open").write_text(SECRET)
    (tmp_path / "open").chmod(0o440)
    (folder / "link").symlink_to(tmp_path / "open")
    guard = guard_for({"CREDENTIALS_DIRECTORY": str(folder)}, allows_readable=False)

    with pytest.raises(ValueError, match="mode 0440"):
        FileGuard(credentials_folder=guard.credentials_folder, user=ROOT).check(
            folder / "link", (folder / "link").stat()
        )


def test_a_secret_that_others_can_read_is_told_each_time_it_is_let_pass(tmp_path: Path) -> None:
    """The secret comes with a warning that names the cure."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o644)
    secret, warning = read_guarded_secret(tmp_path / "secret", FileGuard(allows_readable=True))

    assert secret == SECRET
    assert warning is not None
    assert warning.startswith("UNSAFE: the file can be read by others (mode 0644)")


class Keyring(ModuleType):
    """The package, as far as it is used."""

    def __init__(self, **held: str) -> None:
        super().__init__("keyring")
        self.held = held

    def get_password(self, service: str, name: str) -> str | None:
        if service == "locked":
            raise RuntimeError(f"no way to {SECRET}")
        return self.held.get(f"{service}/{name}".replace("/", "_"))


def from_keyring(reference: str) -> dict[str, object]:
    document = filled_in()
    document["inputs"]["office365"]["credentials"]["client_secret"] = reference
    return document


def test_a_secret_of_the_keyrings_is_named_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service may have slashes in it; the name is what follows the last one."""
    monkeypatch.setitem(sys.modules, "keyring", Keyring(m365_contoso=SECRET, a_b_c="other"))
    settings = settings_of(from_keyring("keyring:m365/contoso"))

    assert secret_of(settings.tenants[0]) == SECRET
    assert read_keyring("keyring:a/b/c") == "other"


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("keyring:m365/nobody", "is not in the keyring; run: keyring set m365 nobody"),
        ("keyring:m365", "is not a place in the keyring; write keyring:SERVICE/NAME"),
        ("keyring:locked/x", "cannot be had: the keyring failed with RuntimeError; unlock it"),
    ],
)
def test_a_keyring_without_the_secret_says_what_to_do(
    reference: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And repeats nothing of what its library said."""
    monkeypatch.setitem(sys.modules, "keyring", Keyring())

    assert mistakes_of(from_keyring(reference)) == [f'{AT}: "{reference}" {why}']


def test_a_keyring_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no part of the collector."""
    monkeypatch.setitem(sys.modules, "keyring", None)

    assert mistakes_of(from_keyring("keyring:m365/contoso")) == [
        (
            f'{AT}: "keyring:m365/contoso" needs the package keyring, which is not installed; '
            "run: pip install keyring"
        )
    ]


@pytest.mark.parametrize(
    ("owner", "said"),
    [
        (
            US,
            "it is a file of user 1000 (mode 0600), and user 10001 runs this; run: chown 10001 /run/s",
        ),
        (10_001, "it is a file of user 10001 (mode 0600), who runs this; run: chmod 400 /run/s"),
    ],
)
def test_a_file_of_somebody_else_says_whose_it_is_and_who_asks(owner: int, said: str) -> None:
    """Docker and Compose show the host's file with the host's owner, and the image runs as user 10001."""
    assert denied(Path("/run/s"), status_of(0o600, owner), user=10_001) == said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_s_file_is_refused_with_its_owner() -> None:
    """As the system says it: root puts the file there, somebody else is to read it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        file = Path(folder, "secret")
        file.write_text(SECRET)
        file.chmod(0o600)
        for mode, said in (
            (0o755, r"user 0 \(mode 0600\), and user 65534 runs"),
            (0o700, "a folder above it"),
        ):
            Path(folder).chmod(mode)
            os.seteuid(65_534)
            try:
                with pytest.raises(ValueError, match=said):
                    read_with_status(file, bytes_max=100)
            finally:
                os.seteuid(0)
