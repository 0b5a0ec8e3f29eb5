"""What the README shows is true."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from m365watch.cli.demo.sample_queries import QUESTIONS
from m365watch.cli.program import app
from m365watch.common.model import Service
from m365watch.config.loader import load_settings
from m365watch.outputs.lake.spec import LakeSection

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
GUID = "11111111-2222-4333-8444-555555555555"


def test_the_configuration_shown_is_accepted_once_it_is_filled_in(tmp_path: Path) -> None:
    """The ten lines that a newcomer copies need two ids and a secret, and nothing else."""
    [shown] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    file = tmp_path / "config.yaml"
    file.write_text(shown.replace("<GUID>", GUID), encoding="utf-8")

    settings = load_settings(file, environment={"M365_SECRET": "made up"})

    [tenant] = settings.tenants
    assert tenant.tenant_id == GUID
    assert {enabled.service for enabled in tenant.services} == {
        Service.AZURE_ACTIVE_DIRECTORY,
        Service.EXCHANGE,
        Service.SHAREPOINT,
    }
    assert [output.folder for output in settings.outputs if isinstance(output, LakeSection)] == [
        tmp_path / "lake"
    ]


def test_the_commands_shown_exist() -> None:
    """Every `m365watch ...` of the README is a command of the program."""
    commands = getattr(get_command(app), "commands", {})

    shown = set(re.findall(r"`m365watch (\w+)", README))
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        shown |= set(re.findall(r"^m365watch (\w+)", block, re.MULTILINE))

    assert "run" in shown
    assert shown <= set(commands)


def test_the_transcript_has_the_demos_questions_and_sentences() -> None:
    """Their titles and columns; what the demo finds is held by its own end-to-end test."""
    [transcript] = re.findall(r"<!-- transcript of ./dev demo -->\n```text\n(.*?)```", README, re.DOTALL)
    lines = transcript.splitlines()
    questions = [question for question in QUESTIONS if question.title in lines]

    assert len(questions) == len(QUESTIONS) - 1
    for question in questions:
        head, first = lines[lines.index(question.title) + 1 :][:2]
        assert all(re.search(rf"\b{column}\b", question.sql) for column in head.split())
        assert re.search(r"\d\d-\d\d \d\d:\d\d", first)
    assert lines[1] == "starting a simulated Microsoft 365 tenant with 7 days of history"
    assert re.search(
        r"^([\d,]+) blobs listed, \1 delivered, 0 lost, 0 quarantined; ", transcript, re.MULTILINE
    )


def test_the_verbs_shown_exist() -> None:
    """Every `./dev ...` of the README is a verb of the script."""
    script = (Path(__file__).resolve().parents[2] / "dev").read_text(encoding="utf-8")
    shown = set(re.findall(r"\./dev (\w+)", README))

    assert shown
    assert [verb for verb in shown if f"\n  {verb} " not in script] == []
