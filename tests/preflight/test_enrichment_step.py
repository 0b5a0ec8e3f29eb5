"""What `check` says of the files that rules ask."""

from __future__ import annotations

from pathlib import Path

from m365watch.clock import SystemClock
from m365watch.config.settings import DetectionSettings, EnrichSettings, Settings
from m365watch.diagnosis.findings import Verdict
from m365watch.preflight.enrichment import check_enrichment


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
    assert check_enrichment(settings_with(tmp_path, DetectionSettings()), SystemClock()) == []


def test_what_rules_go_without_is_named_and_no_fault(tmp_path: Path) -> None:
    """All files are optional: without any the step is as it should be, and says what could be had."""
    [step] = check_enrichment(settings_with(tmp_path, DetectionSettings(enabled=True)), SystemClock())

    assert step.verdict is Verdict.OK
    assert "find less or nothing without admin_lists, databases, " in step.seen


def test_a_file_that_cannot_be_read_is_a_note_with_its_name(tmp_path: Path) -> None:
    """A run would work, with less."""
    (tmp_path / "city.mmdb").write_text("no table")
    files = EnrichSettings(databases=(tmp_path / "city.mmdb",), tor_lists=(tmp_path / "gone.txt",))
    detections = DetectionSettings(enabled=True, packs=(), enrich=files)
    broken, gone = check_enrichment(settings_with(tmp_path, detections), SystemClock())

    assert {broken.verdict, gone.verdict} == {Verdict.NOTE}
    assert broken.seen.startswith(f"{tmp_path / 'city.mmdb'}: is no table of addresses")
    assert gone.seen == f"{tmp_path / 'gone.txt'}: there is no such file"
    assert gone.fix is not None
