"""`m365watch tenants remove`: what it prints, asks, refuses and writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from m365watch.cli.program import app
from m365watch.cli.terminal.error_output import exit_code_of
from m365watch.common.errors import SettingsRefused

ONE = "0a1b2c3d-0000-4000-8000-00000000000a"
TWO = "0a1b2c3d-0000-4000-8000-00000000000b"
THREE = "0a1b2c3d-0000-4000-8000-00000000000c"
TEXT = f"""\
inputs:
  office365:
    credentials:
      tenant_id: [{ONE}, {TWO}]   # all of ours
      client_id: {ONE}
      client_secret: made-up.secret
  adatum:
    type: office365
    credentials: {{tenant_id: {THREE}, client_id: {ONE}, client_secret: '${{NOT_SET}}'}}
outputs: {{c: {{type: console}}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "m365watch.yaml"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


def remove(*words: str, config: Path) -> Result:
    return CliRunner().invoke(app, ["tenants", "remove", *words, "--config", str(config)])


def test_a_tenant_goes_and_its_neighbours_stay(config: Path) -> None:
    """The difference is shown with stars in place of secrets; what was collected is not touched."""
    ended = remove(TWO, "--yes", config=config)

    assert (ended.exit_code, ended.stdout) == (0, "")
    assert f"-      tenant_id: [{ONE}, {TWO}]   # all of ours\n" in ended.stderr
    assert f"+      tenant_id: [{ONE}]   # all of ours\n" in ended.stderr
    assert "made-up" not in ended.output
    assert config.read_text() == TEXT.replace(f"[{ONE}, {TWO}]", f"[{ONE}]")
    assert [path.name for path in config.parent.iterdir()] == [config.name]


def test_an_input_of_one_tenant_goes_whole_and_its_secret_need_not_be_there(config: Path) -> None:
    """Which is said."""
    ended = remove(THREE.upper(), "--yes", config=config)

    assert (ended.exit_code, "input adatum had no other tenant and is gone" in ended.stderr) == (0, True)
    assert config.read_text() == TEXT[: TEXT.index("  adatum")] + TEXT[TEXT.index("outputs") :]


def test_nothing_is_changed_that_nobody_confirmed(config: Path) -> None:
    """Without a terminal and without --yes it is a usage error."""
    ended = remove(TWO, config=config)

    assert (ended.exit_code, config.read_text()) == (2, TEXT)
    assert "add --yes to take it out" in " ".join(ended.stderr.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["0a1b2c3d-0000-4000-8000-00000000000d"], f"it names {ONE}, {TWO}, {THREE}"),
        ([TWO, "--input", "adatum"], f"it names {THREE}"),
        ([TWO, "--input", "contoso"], "it has office365, adatum"),
    ],
)
def test_a_tenant_that_is_not_there_is_refused_with_those_that_are(
    config: Path, words: list[str], told: str
) -> None:
    """Exit code 2, and the file is as it was."""
    error = remove(*words, "--yes", config=config).exception

    assert isinstance(error, SettingsRefused)
    assert exit_code_of(error) == 2
    assert told in str(error)
    assert config.read_text() == TEXT


def test_what_is_no_tenant_is_a_usage_error(config: Path) -> None:
    """Before anything is read."""
    ended = remove("contoso", "--yes", config=config)

    assert (ended.exit_code, '"contoso" is not a GUID' in ended.stderr) == (2, True)


def test_the_last_tenant_stays(config: Path) -> None:
    """A configuration without one would be refused by the running collector."""
    config.write_text(TEXT[: TEXT.index("  adatum")].replace(f"[{ONE}, {TWO}]", f"[{ONE}]"))

    error = remove(ONE, "--yes", config=config).exception

    assert f"has no tenant but {ONE}" in str(error)
    assert "stop the collector instead" in str(error)


def test_the_configuration_may_be_named_before_the_verb(config: Path) -> None:
    """As for the other commands that show something without one."""
    ended = CliRunner().invoke(app, ["tenants", "--config", str(config), "remove", TWO, "--yes"])

    assert (ended.exit_code, TWO in config.read_text()) == (0, False)
