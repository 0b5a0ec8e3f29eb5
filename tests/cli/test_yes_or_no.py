"""Questions of yes and no: what counts as which, and where nobody answers."""

from __future__ import annotations

import io
import sys

import pytest
import typer

from m365watch.cli.terminal.prompts import confirm, require_yes


@pytest.mark.parametrize(
    ("typed", "answer"), [("y\n", True), (" YES \n", True), ("n\n", False), ("\n", False)]
)
def test_yes_has_to_be_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, answer: bool
) -> None:
    """And the question goes to standard error alone: standard output is for what a command prints."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))

    assert confirm("Erase it?") is answer
    assert capsys.readouterr() == ("", "Erase it? [y/N]: ")


def test_what_is_neither_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody's slip is taken for a yes, nor for a no."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("yep\ny\n"))

    assert confirm("Erase it?")
    assert capsys.readouterr().err == "Erase it? [y/N]:   answer y or n\nErase it? [y/N]: "


@pytest.mark.parametrize("typed", ["", "n\n"])
def test_without_a_yes_it_ends_there(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """As where nobody is there to answer."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))

    with pytest.raises(typer.Abort):
        require_yes("Erase it?")
