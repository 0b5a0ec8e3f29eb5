"""What docs/detection.md shows is accepted as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from typer.main import get_command
from verdicts import packs

from m365watch.cli.program import app
from m365watch.config.loader import parse_settings
from m365watch.detection.alerts.alert_exceptions import list_unknown
from m365watch.detection.alerts.exceptions_file import read_exceptions
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.rules.rule_library import load_packs

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "detection.md").read_text(encoding="utf-8")
GUID = "11111111-2222-4333-8444-555555555555"


def block(name: str) -> str:
    [found] = re.findall(rf"<!-- {name} -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_settings_shown_are_accepted(tmp_path: Path) -> None:
    """With a folder of rules and a file of exceptions beside the configuration."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "exceptions.yml").write_text("")
    keys = {"tenant_id": GUID, "client_id": GUID, "client_secret": "made up"}
    document = {"inputs": {"office365": {"credentials": keys}}, **yaml.safe_load(block("settings"))}

    found = parse_settings(document, path=tmp_path / "c.yaml", environment={}).detections

    assert found.rules_directories == (tmp_path / "rules",)
    assert found.accepted_domains == {"contoso.com", "contoso.de"}


def test_the_files_shown_are_accepted(tmp_path: Path) -> None:
    """With the tables and lists where the page has them."""
    names = re.findall(r"[\w-]+/[\w.-]+", block("enrich"))
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    keys = {"tenant_id": GUID, "client_id": GUID, "client_secret": "made up"}
    document = {"inputs": {"office365": {"credentials": keys}}, **yaml.safe_load(block("enrich"))}

    found = parse_settings(document, path=tmp_path / "c.yaml", environment={}).detections.enrich

    assert len(names) == 5
    assert found.databases == (tmp_path / names[0], tmp_path / names[1])
    assert found.vips == ("ceo@contoso.com",)


def test_the_filter_shown_is_taken(tmp_path: Path) -> None:
    """Its rule is one of the packs'."""
    (tmp_path / "filter.yml").write_text(block("filter"), encoding="utf-8")
    before, after = packs(), load_packs(directories=[tmp_path])

    assert after.mistakes == ()
    assert [one.name for one in after.rules if one not in before.rules] == ["b02_inbox_rule_hides_mail"]


def test_the_exceptions_shown_except_something(tmp_path: Path) -> None:
    """Their rule is one of the packs'."""
    (tmp_path / "exceptions.yml").write_text(block("exceptions"), encoding="utf-8")
    exceptions, mistakes = read_exceptions(tmp_path / "exceptions.yml")

    assert mistakes == []
    assert len(exceptions.every) == 1
    assert list_unknown(exceptions, packs().rules, tenants=()) == []


def test_every_command_and_option_shown_is_one() -> None:
    """Also below a group of commands."""
    commands = getattr(get_command(app), "commands", {})
    lines = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))

    shown = re.findall(r"^m365watch (\w+) (\S+)(.*)$", lines, re.MULTILINE)
    assert {group for group, *_ in shown} == {"alerts", "hunt", "query"}
    for group, name, rest in shown:
        command = getattr(commands[group], "commands", {}).get(name, commands[group])
        options = {one for each in command.params for one in each.opts}
        assert set(re.findall(r"--[a-z]+", f"{name} {rest}")) <= options
    for group, name in re.findall(r"`m365watch (alerts|rules) (\w+)", PAGE):
        assert name in commands[group].commands
    assert f"`{FILE_NAME}`" in PAGE


def test_the_tutorials_count_the_rules_that_there_are() -> None:
    """Whoever follows one sees the number on the page."""
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "tutorials").glob("*.md")]
    told = [int(one) for page in pages for one in re.findall(r"(\d+) rules of the packs core and devo", page)]

    assert told == [len(packs().rules)] * 2
