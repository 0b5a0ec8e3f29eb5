"""What `check` says of the rules, and of the files that they ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from m365watch.clock import SystemClock
from m365watch.config.settings import DetectionSettings, EnrichSettings, Settings
from m365watch.diagnosis.findings import Verdict
from m365watch.preflight.detections import check_detections


def settings_with(folder: Path, detections: DetectionSettings) -> Settings:
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


def test_there_is_no_step_where_detections_are_off(tmp_path: Path) -> None:
    """Nobody asks the rules anything then."""
    assert check_detections(settings_with(tmp_path, DetectionSettings()), SystemClock()) == []


def test_what_rules_go_without_is_named_and_no_fault(tmp_path: Path) -> None:
    """All files are optional: without any the step is as it should be, and says what could be had."""
    [step] = check_detections(settings_with(tmp_path, DetectionSettings(enabled=True)), SystemClock())

    assert step.verdict is Verdict.OK
    assert "find less or nothing without admin_lists, databases, " in step.seen


def test_a_file_that_cannot_be_read_is_a_note_with_its_name(tmp_path: Path) -> None:
    """A run would work, with less; so does a rule with a mistake."""
    (tmp_path / "city.mmdb").write_text("no table")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "bad.yml").write_text("title: A rule\n")
    detections = DetectionSettings(
        enabled=True,
        packs=(),
        rules_directories=(tmp_path / "rules",),
        enrich=EnrichSettings(databases=(tmp_path / "city.mmdb",), tor_lists=(tmp_path / "gone.txt",)),
    )
    good, *notes = check_detections(settings_with(tmp_path, detections), SystemClock())

    assert (good.verdict, {one.verdict for one in notes}) == (Verdict.OK, {Verdict.NOTE})
    assert "bad.yml" in notes[0].seen
    assert [Path(one.seen.partition(":")[0]).name for one in notes[-2:]] == ["city.mmdb", "gone.txt"]
    assert replace(notes[-1], fix=None).seen.endswith("there is no such file")
