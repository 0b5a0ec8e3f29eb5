"""The rule of docs/tutorials/adding-a-rule.md does what the page says of it."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from m365watch.cli.program import app
from m365watch.detect.library import load_packs
from tools import detections_page

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "adding-a-rule.md").read_text(
    encoding="utf-8"
)


def test_the_rule_and_its_cases_are_good_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the page's own commands, in a folder that holds nothing but its files."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONFIG_FILE", raising=False)
    for name, text in re.findall(r"<!-- (\S+\.yml) -->\n```yaml\n(.*?)```", PAGE, re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    [block] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    validate, try_cases, hunt = block.splitlines()

    for line, told in ((validate, "1 rule will do\n"), (try_cases, "3 cases, 0 not as claimed")):
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, done.stdout
        assert told in done.stdout
    assert hunt.startswith("m365watch hunt rules ")


def test_every_rule_that_makes_alerts_is_in_the_catalogue() -> None:
    """With its techniques and tactics."""
    page = detections_page.render()
    rules = [rule for rule in load_packs().rules if rule.alerts]

    assert len(rules) > 60
    for rule in rules:
        assert f"| {detections_page.number_of(rule)} | {rule.title} |" in page
        assert all(f"[{one}](" in page for one in rule.techniques)
    assert set(detections_page.list_tactics(rules)) <= set(detections_page.TACTICS)
