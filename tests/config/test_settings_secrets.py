"""Where secrets may come from, and that none of them is ever shown."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import SettingsRefused
from m365watch.config.loader import parse_settings
from settings_documents import SECRET, Document, filled_in, mistakes_of, secret_of, settings_of

AT = "inputs.office365.credentials"


def with_credentials(**changes: object) -> Document:
    document = filled_in()
    credentials = document["inputs"]["office365"]["credentials"] | changes
    document["inputs"]["office365"]["credentials"] = {k: v for k, v in credentials.items() if v is not None}
    return document


def with_file(folder: Path, content: bytes, *, mode: int = 0o600) -> Document:
    (folder / "secret").write_bytes(content)
    (folder / "secret").chmod(mode)
    return with_credentials(client_secret=None, client_secret_file="secret")


def revealed(document: Document, **options: object) -> str:
    (tenant,) = settings_of(document, **options).tenants  # type: ignore[arg-type]
    return secret_of(tenant)


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_secret_file_is_read_without_its_last_line_break(tmp_path: Path, ending: bytes) -> None:
    """Editors and `echo` end a file with a line break that is no part of the secret."""
    document = with_file(tmp_path, SECRET.encode() + ending)

    assert revealed(document, path=tmp_path / "c.json") == SECRET


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty; write the secret's value into it"),
        (b" \n\n", "is empty; write the secret's value into it"),
        (b"one\ntwo\n", "holds more than one line of text; write the secret's value and nothing else"),
        (b"x" * 5_000, "holds more than one line of text; write the secret's value and nothing else"),
        (b"\xff\xfe", "is not UTF-8 text; write the secret's value and nothing else"),
    ],
)
def test_a_secret_file_without_one_secret_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    """What cannot be a secret is better told now than by a refused token."""
    document = with_file(tmp_path, content)

    assert mistakes_of(document, path=tmp_path / "c.json") == [
        f'{AT}.client_secret_file: "secret" (text) {why}'
    ]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_secret_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """The mistake names the command that cures it."""
    document = with_file(tmp_path, SECRET.encode(), mode=mode)

    assert mistakes_of(document, path=tmp_path / "c.json") == [
        (
            f'{AT}.client_secret_file: "secret" (text) can be read by others (mode {mode:04o}); '
            f"run: chmod 600 {tmp_path}/secret"
        )
    ]


def test_a_secret_file_that_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    """A named pipe would wait for a writer, a device would never end, a folder has nothing to read."""
    document = with_file(tmp_path, b"")
    (tmp_path / "secret").unlink()
    path = tmp_path / "c.json"
    missing = mistakes_of(document, path=path)
    os.mkfifo(tmp_path / "secret", 0o600)
    pipe = mistakes_of(document, path=path)
    (tmp_path / "secret").unlink()
    (tmp_path / "secret").mkdir(mode=0o700)

    assert missing == [f'{AT}.client_secret_file: "secret" (text) cannot be read: No such file or directory']
    assert pipe == [f'{AT}.client_secret_file: "secret" (text) is not a regular file']
    assert mistakes_of(document, path=path) == pipe


def test_a_secret_is_given_once(tmp_path: Path) -> None:
    """Two sources could disagree; none is named with all the ways to give one."""
    both = with_file(tmp_path, SECRET.encode())
    both["inputs"]["office365"]["credentials"]["client_secret"] = SECRET

    assert mistakes_of(both, path=tmp_path / "c.json") == [
        f"{AT}.client_secret: is given beside client_secret_file; keep one of the two"
    ]
    assert mistakes_of(with_credentials(client_secret=None)) == [
        (
            f"{AT}: lacks a credential; give one of client_secret, client_secret_file, certificate_file, "
            "federated_token_file, managed_identity"
        )
    ]


def test_variables_are_filled_in_anywhere_and_once() -> None:
    """Whole values and parts of them; what a variable holds is not looked at again."""
    document = with_credentials(client_secret="${SECRET}", client_id="${A}-8888-4777-8666-${B}")
    document["globals"] = {"name": "at-${SITE}", "debug": "${DEBUG}"}
    environment = {
        "SECRET": "${SITE}",
        "A": "99999999",
        "B": "555555555555",
        "SITE": "berlin",
        "DEBUG": "true",
    }
    settings = settings_of(document, environment=environment)

    assert settings.collector_name == "at-berlin"
    assert settings.debug
    assert settings.tenants[0].client_id == "99999999-8888-4777-8666-555555555555"
    assert secret_of(settings.tenants[0]) == "${SITE}"


def test_a_variable_that_is_not_there_is_named() -> None:
    """Unset and empty are the same mistake: a secret that is none."""
    document = with_credentials(client_secret="${ONE}${TWO}${THREE}", client_id="${-}")

    assert mistakes_of(document, environment={"TWO": "", "THREE": "3"}) == [
        f"{AT}.client_id: has a ${{ that starts no variable; write it as ${{NAME}}",
        f"{AT}.client_secret: the environment lacks ONE and TWO, or it is empty; set it",
    ]


def test_what_systemd_sets_in_the_unit_alone_is_not_to_be_set_by_hand() -> None:
    """Whoever runs `check` beside the service is told how the secret is lent to it."""
    document = with_credentials(client_secret=None, client_secret_file="${CREDENTIALS_DIRECTORY}/m365_secret")

    [mistake] = mistakes_of(document, environment={})

    assert "lacks CREDENTIALS_DIRECTORY" in mistake
    assert "systemd-run --pipe --wait --uid=USER -p LoadCredential=NAME:FILE m365watch" in mistake
    assert "set it" not in mistake


def test_a_line_break_from_the_environment_is_refused() -> None:
    """Orchestrators hand on the line break at the end of a file."""
    document = with_credentials(client_secret="${S}")

    assert mistakes_of(document, environment={"S": SECRET + "\n"}) == [
        (
            f"{AT}.client_secret: has a line break or another character that cannot be used; "
            "give the secret's value in quotes, or ${NAME}, or the key client_secret_file, or remove the key"
        )
    ]


@guarantee(24)
@pytest.mark.parametrize(
    "changes",
    [
        {"client_secret": [SECRET]},
        {"client_secret": {SECRET: SECRET}},
        {"client_secrets": SECRET},
        {"client_secret_file": SECRET},
        {"client_id": "Ab18Q~" + SECRET + "0123456789012345"},
        {"tenant_id": "${S}"},
        {"client_secret": "<" + SECRET + ">"},
    ],
)
def test_no_mistake_shows_a_secret(changes: dict[str, object]) -> None:
    """Wherever it was put by error, a secret is not repeated to whoever reads the screen."""
    document = with_credentials(**changes)
    with pytest.raises(SettingsRefused) as refused:
        settings_of(document, environment={"S": SECRET})
    shown = "".join(traceback.format_exception(refused.value)) + "\n".join(refused.value.mistakes)

    # A file's name is no secret, so that the only place where it shows is its own key.
    lines = [line for line in shown.splitlines() if SECRET in line and "client_secret_file" not in line]
    assert [line for line in lines if f'."{SECRET}"' not in line] == []


def test_a_text_in_place_of_the_credentials_is_not_shown() -> None:
    """It may well be the secret itself."""
    document: Document = {"inputs": {"office365": {"credentials": SECRET}}}

    assert mistakes_of(document) == [
        f"{AT}: *** (text) is of the wrong kind; give an object with tenant_id, client_id and a credential"
    ]


@guarantee(24)
def test_settings_do_not_show_their_secret() -> None:
    """`repr` ends up in reports and tracebacks."""
    assert SECRET not in repr(settings_of(filled_in()))


def test_the_id_of_a_secret_is_warned_of() -> None:
    """Entra lists the ID beside the value, and the ID is what one can still see a day later."""
    document = with_credentials(client_secret="0a1b2c3d-0000-4000-8000-0000000000ff")

    assert settings_of(document).warnings == (
        f"{AT}.client_secret: looks like the secret's ID; Entra wants its value",
    )


def test_the_id_of_a_secret_in_a_file_is_warned_of(tmp_path: Path) -> None:
    """As in the configuration itself; the file is named, and not what it holds."""
    file = tmp_path / "secret"
    file.write_text("0a1b2c3d-0000-4000-8000-0000000000ff\n")
    file.chmod(0o600)
    document = with_credentials(client_secret=None, client_secret_file=str(file))

    (warning,) = settings_of(document).warnings
    assert warning == f"{AT}.client_secret_file: looks like the secret's ID; Entra wants its value"


@guarantee(29)
@pytest.mark.parametrize(
    "given",
    [
        {"client_secret": "${M365_SECRET}"},
        {"client_secret": None, "client_secret_file": "not-there"},
        {"client_secret": None, "client_secret_file": "${CREDENTIALS_DIRECTORY}/m365_secret"},
        {"client_secret": None, "federated_token_file": "${AZURE_FEDERATED_TOKEN_FILE}"},
        {
            "client_secret": None,
            "certificate_file": "${CREDENTIALS_DIRECTORY}/cer",
            "private_key_file": "${CREDENTIALS_DIRECTORY}/key",
        },
    ],
)
def test_who_only_reads_needs_no_secret(tmp_path: Path, given: Document) -> None:
    """The ledger beside a running collector is read from another terminal, by another user perhaps."""
    outputs = {
        "http": {
            "type": "devo_http",
            "config": {"endpoint": "https://a.example", "domain": "d", "token": "${T}"},
        }
    }
    document = with_credentials(**given) | {"outputs": outputs}
    path = tmp_path / "c.json"

    assert parse_settings(document, path=path, environment={}, for_reading=True).state_directory
    with pytest.raises(SettingsRefused):
        parse_settings(document, path=path, environment={})


def test_who_only_reads_is_told_every_other_mistake() -> None:
    """What stands in the file is looked at, but for what its secrets stand for."""
    document = with_credentials(client_id="${CLIENT}", client_secret="${M365_SECRET}", tenant="x")

    with pytest.raises(SettingsRefused) as refused:
        parse_settings(document, path=Path("/somewhere/c.json"), environment={}, for_reading=True)

    assert [line.partition(": ")[0] for line in refused.value.mistakes] == [f"{AT}.client_id", f"{AT}.tenant"]
