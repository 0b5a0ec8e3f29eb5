"""A change of the configuration's file is shown, asked for, and made or left."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from m365watch.cli.tenants.file_change import write_tenant
from m365watch.common.errors import SettingsRefused
from m365watch.config.config_file import read_whole

ONE = "0a1b2c3d-0000-4000-8000-00000000000a"
TWO = "0a1b2c3d-0000-4000-8000-00000000000b"
TEXT = f"""\
inputs:
  office365:
    credentials:
      tenant_id: {ONE}
      client_secret: made-up.secret   # ours
      client_id: {TWO}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m365watch.yaml"
    path.write_text(TEXT)
    return path


def offering(file: Path, *, yes: bool = False) -> typer.Typer:
    """A command that offers the second tenant."""
    offer = typer.Typer()

    @offer.command()
    def add() -> None:
        write_tenant(read_whole(file), None, TWO, yes=yes)

    return offer


def test_the_change_is_shown_before_it_is_asked_for(file: Path) -> None:
    """With stars in place of the secret beside it."""
    ended = CliRunner().invoke(offering(file), input="y\n")

    assert ended.exit_code == 0
    assert f"+      tenant_id: [{ONE}, {TWO}]\n" in ended.stderr
    assert ended.stderr.index("+++") < ended.stderr.index(f"Change {file}?")
    assert "made-up" not in ended.output
    assert file.read_text() == TEXT.replace(ONE, f"[{ONE}, {TWO}]")


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_whatever_is_no_yes_leaves_the_file(file: Path, answer: str) -> None:
    """Exit code 1."""
    ended = CliRunner().invoke(offering(file), input=answer)

    assert (ended.exit_code, file.read_text()) == (1, TEXT)


def test_yes_asks_nothing(file: Path) -> None:
    """For scripts."""
    ended = CliRunner().invoke(offering(file, yes=True))

    assert "?" not in ended.stderr
    assert TWO in file.read_text().splitlines()[3]


def test_what_would_not_load_is_neither_asked_for_nor_written(file: Path) -> None:
    """An input that collects the tenant already is named."""
    other = TEXT.replace("inputs:\n", "").replace("office365", "second").replace(ONE, TWO)
    file.write_text(TEXT + other.replace("    credentials", "    type: office365\n    credentials"))
    before = file.read_text()

    with pytest.raises(SettingsRefused) as refused:
        write_tenant(read_whole(file), "office365", TWO, yes=True)

    assert all("collects this of tenant" in mistake for mistake in refused.value.mistakes)
    assert file.read_text() == before
