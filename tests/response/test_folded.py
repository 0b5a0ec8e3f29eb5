"""A plan on a terminal: prose is folded between words, and what is copied stays whole."""

from __future__ import annotations

import sys

import pytest

from alerts import ANN, make_alert
from m365watch.cli.respond.plan_view import plan_lines, write_plan
from m365watch.config.models.clouds import CLOUDS
from m365watch.response.plans.planner import plan_response

COLUMNS = 60


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those of a plan, for a narrow terminal."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    alert = make_alert("see_who_signed_in", "disable_account", user=ANN, address="203.0.113.66")
    return [*plan_lines(plan_response(alert), cloud=CLOUDS["worldwide"])]


def test_prose_is_folded_at_the_terminal_s_width(
    lines: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The terminal broke it within words, where `alerts show` does not."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write_plan(lines)
    shown = capsys.readouterr().out.splitlines()
    commands = [one for one in lines if one.startswith("     ")]
    note = next(one for one in lines if "it was tried" in one and one.startswith("   "))

    assert [one for one in shown if len(one) > COLUMNS and one not in commands] == []
    assert [one for one in commands if one not in shown] == []
    assert " ".join(note.split()) in " ".join(" ".join(shown).split())
    first = next(place for place, one in enumerate(shown) if one and note.startswith(one))
    assert shown[first + 1].startswith("   ")


def test_into_a_pipe_every_line_is_whole(lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A program looks for a line, and not for half of one."""
    write_plan(lines)

    assert capsys.readouterr().out.splitlines() == lines
