"""Which rules would be in force, and what is wrong with the user's own, told before a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from m365watch.common.clock import SystemClock
from m365watch.config.models.detections import DetectionsSection, Pack
from m365watch.config.models.settings import Settings
from m365watch.detection.store.detection_store import DetectionState
from m365watch.health.checks.detection_checks import MISTAKES_SHOWN_MAX, check_detections, check_file
from m365watch.registry.checks import Verdict

GOOD = """\
title: A rule of one's own
id: 5f1c6c0e-7d0b-4a51-9a4e-000000000001
logsource: {product: m365, service: exchange}
detection: {s: {Operation: A}, condition: s}
level: high
"""
HALF = "---\ntitle: half\nlogsource: {product: m365}\n"


def settings_with(folder: Path, detections: DetectionsSection) -> Settings:
    return Settings(
        path=folder / "m365watch.json",
        collector_name="c",
        state_directory=folder,
        debug=False,
        tenants=(),
        outputs=(),
        warnings=(),
        detections=detections,
    )


def own(folder: Path, rules: str, *, packs: tuple[Pack, ...] = (), exceptions: str = "") -> Settings:
    (folder / "rules").mkdir()
    (folder / "rules" / "mine.yml").write_text(rules, encoding="utf-8")
    path = folder / "exceptions.yml"
    path.write_text(exceptions, encoding="utf-8")
    detections = DetectionsSection(
        enabled=True, packs=packs, rules_directories=(folder / "rules",), exceptions_file=path
    )
    return settings_with(folder, detections)


def test_there_is_no_step_where_detections_are_off(tmp_path: Path) -> None:
    """No rule is read then."""
    assert check_detections(settings_with(tmp_path, DetectionsSection())) == []


def test_the_rules_in_force_are_counted(tmp_path: Path) -> None:
    """Those that come along, and those of one's own."""
    exceptions = "exceptions: [{rule: '*', reason: x, entity: {user: a}}]\n"
    [step] = check_detections(own(tmp_path, GOOD, packs=("core",), exceptions=exceptions))

    assert step.verdict is Verdict.OK
    assert " rules of the pack core, 1 of yours; 1 exception" in step.seen


def test_rules_of_a_place_that_is_a_file_are_counted(tmp_path: Path) -> None:
    """Whoever has one rule names its file."""
    (tmp_path / "mine.yml").write_text(GOOD, encoding="utf-8")
    detections = DetectionsSection(enabled=True, packs=(), rules_directories=(tmp_path / "mine.yml",))
    [step] = check_detections(settings_with(tmp_path, detections))

    assert step.seen == "1 of yours"


def test_each_mistake_is_a_line_with_file_line_and_cure(tmp_path: Path) -> None:
    """The rule beside it works; an exception of no rule is named too."""
    exceptions = "exceptions:\n- {rule: B08}\n- {rule: B99, reason: x}\n"
    good, *notes = check_detections(own(tmp_path, GOOD + HALF, exceptions=exceptions))

    assert good.seen == "1 of yours; 1 exception"
    assert [note.verdict for note in notes] == [Verdict.NOTE] * 3
    assert all(note.fix and note.fix.startswith("correct it") for note in notes)
    assert notes[0].seen.startswith("rules/mine.yml:7 (half): ")
    assert notes[1].seen.startswith(f"{tmp_path}/exceptions.yml:2: exceptions.0.reason: is missing")
    assert (
        notes[2].seen == f"{tmp_path}/exceptions.yml:3: there is no rule B99: the exception excepts nothing"
    )


def test_an_exception_for_the_risk_alert_is_no_mistake(tmp_path: Path) -> None:
    """It has no file of rules, and what is excepted of it makes no alert."""
    exceptions = "exceptions: [{rule: RISK, reason: x, entity: {user: a}}]\n"

    assert [step.verdict for step in check_detections(own(tmp_path, GOOD, exceptions=exceptions))] == [
        Verdict.OK
    ]


def test_rules_and_exceptions_that_are_not_there_are_broken(tmp_path: Path) -> None:
    """Each by its path, once; a run does without them, and says so."""
    detections = DetectionsSection(
        enabled=True,
        packs=("core",),
        rules_directories=(tmp_path / "gone",),
        exceptions_file=tmp_path / "gone.yml",
    )
    head, *steps = check_detections(settings_with(tmp_path, detections))

    assert head.verdict is Verdict.OK
    assert [(step.verdict, step.seen) for step in steps] == [
        (Verdict.BROKEN, f"{tmp_path}/gone: there is no such file or directory"),
        (Verdict.BROKEN, f"{tmp_path}/gone.yml: there is no such file"),
    ]


@pytest.mark.parametrize("how", ["a page", "all of it", "nothing is left"])
def test_a_damaged_file_of_detections_is_told_and_left_as_it_is(tmp_path: Path, how: str) -> None:
    """The next start would find it; whoever checks before has the choice to put a copy back."""
    settings = settings_with(tmp_path, DetectionsSection(enabled=True))
    path = tmp_path / "detections.sqlite"
    assert check_file(settings, SystemClock()) == []
    DetectionState(path).close()
    assert check_file(settings, SystemClock()) == []
    body = path.read_bytes()
    damaged = {"a page": body[:4096] + bytes(4096) + body[8192:], "all of it": b"x" * 8192}.get(how, b"")
    path.write_bytes(damaged)
    [step] = check_file(settings, SystemClock())

    assert step.verdict is Verdict.NOTE
    assert step.seen.startswith(f"{path} is damaged (")
    assert "makes it anew from the lake" in (step.fix or "")
    assert path.read_bytes() == damaged
    assert check_file(replace(settings, detections=DetectionsSection()), SystemClock()) == []


def test_detections_without_a_rule_are_broken(tmp_path: Path) -> None:
    """They are on and find nothing; many mistakes take few lines."""
    head, *notes = check_detections(own(tmp_path, HALF * 30))

    assert (head.verdict, bool(head.fix)) == (Verdict.BROKEN, True)
    assert len(notes) == MISTAKES_SHOWN_MAX + 1
    assert notes[-1].seen == "10 more; `m365watch rules validate` names them"
