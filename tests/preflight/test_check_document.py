"""What `check --json` prints is what docs/reference/status.md says."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from m365watch.cli.check_view import check_document
from m365watch.cli.documents import as_json
from m365watch.preflight.report import Check, Preflight
from preflight_scene import preflight

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "status.md"
STEP_KEYS = {"step", "subject", "verdict", "seen", "fix", "waits_for"}


def test_the_document_has_every_step_and_the_exit_code(tmp_path: Path) -> None:
    """A step that is broken has a cure, one that is skipped says what it waits for."""
    groups = preflight(tmp_path, "secret-expired")
    made = check_document(Preflight(groups), path=tmp_path / "c.json", exit_code=1, now=NOW)
    document = json.loads(as_json(made))
    steps = [step for group in document["groups"] for step in group["steps"]]
    stopped = [step for step in steps if step["verdict"] == "broken"]

    assert (document["schema"], document["at"]) == (1, "2026-11-24T12:00:00Z")
    assert (document["exit_code"], document["broken"]) == (1, True)
    assert document["configuration"] == str(tmp_path / "c.json")
    assert [group["place"] for group in document["groups"]] == ["machine", "network", "tenant", "outputs"]
    assert [bool(group["tenant"]) for group in document["groups"]] == [False, False, True, False]
    assert all(set(step) == STEP_KEYS for step in steps)
    assert [(step["step"], step["subject"]) for step in stopped] == [("token", "client_secret")]
    assert "create a new client secret" in stopped[0]["fix"]
    assert {step["waits_for"] for step in steps if step["verdict"] == "skipped"} == {"token"}
    assert sum(document["counts"].values()) == len(steps)


def test_the_reference_names_every_key_and_every_step() -> None:
    """Whoever reads the document with a program finds there what it may hold."""
    section = PAGE.read_text().partition("## `m365watch check --json`")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([^`]+)`", section))
    keys = {"schema", "at", "configuration", "broken", "exit_code", "counts", "groups[]", "place", "tenant"}

    assert keys | {f"steps[].{key}" for key in STEP_KEYS} | set(map(str, Check)) <= named
