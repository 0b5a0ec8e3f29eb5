"""What `check` says of the files that rules ask."""

from __future__ import annotations

from pathlib import Path

from m365watch.common.clock import SystemClock
from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.enrichment import EnrichSection
from m365watch.config.models.settings import Settings
from m365watch.detection.enrichment.context_loader import make_knowledge
from m365watch.health.checks.detection_checks import check_enrichment
from m365watch.registry.checks import Verdict


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


def test_there_is_no_step_where_detections_are_off(tmp_path: Path) -> None:
    """Nobody asks the rules anything then."""
    assert check_enrichment(settings_with(tmp_path, DetectionsSection()), SystemClock()) == []


def test_what_rules_go_without_is_named_and_no_fault(tmp_path: Path) -> None:
    """All files are optional: without any the step is as it should be, and says what could be had."""
    [step] = check_enrichment(settings_with(tmp_path, DetectionsSection(enabled=True)), SystemClock())

    assert step.verdict is Verdict.OK
    assert "find less or nothing without admin_lists, databases, " in step.seen


def test_a_file_that_cannot_be_read_is_a_note_with_its_name(tmp_path: Path) -> None:
    """A run would work, with less."""
    (tmp_path / "city.mmdb").write_text("no table")
    files = EnrichSection(databases=(tmp_path / "city.mmdb",), tor_lists=(tmp_path / "gone.txt",))
    detections = DetectionsSection(enabled=True, packs=(), enrich=files)
    broken, gone = check_enrichment(settings_with(tmp_path, detections), SystemClock())

    assert {broken.verdict, gone.verdict} == {Verdict.NOTE}
    assert broken.seen.startswith(f"{tmp_path / 'city.mmdb'}: is no table of addresses")
    assert gone.seen == f"{tmp_path / 'gone.txt'}: there is no such file"
    assert gone.fix is not None


def test_lists_are_read_as_windows_saves_them(tmp_path: Path) -> None:
    """With a mark, in UTF-8 or UTF-16; in what nothing tells, they are no text."""
    good, bad = tmp_path / "vip.txt", tmp_path / "admin.txt"
    good.write_text("ceo@contoso.example\n", encoding="utf-16")
    bad.write_bytes("root@contoso.example\n".encode("utf-16-le"))
    files = EnrichSection(vip_lists=(good,), admin_lists=(bad,))
    detections = DetectionsSection(enabled=True, packs=("core",), enrich=files)
    note, lacks = check_enrichment(settings_with(tmp_path, detections), SystemClock())

    assert "ceo@contoso.example" in make_knowledge(detections, clock=SystemClock()).vips
    assert note.seen.startswith(f"{bad}: is no text in UTF-8")
    assert "admin_lists" in lacks.seen
    assert "vip_lists" not in lacks.seen


def test_lines_in_another_encoding_are_noted(tmp_path: Path) -> None:
    """They would match nothing without a word; a remark may be in any."""
    names = tmp_path / "vip.txt"
    names.write_bytes("müller@contoso.example  # für\nann@contoso.example # für\n".encode("latin-1"))
    detections = DetectionsSection(enabled=True, packs=("core",), enrich=EnrichSection(vip_lists=(names,)))
    note, _ = check_enrichment(settings_with(tmp_path, detections), SystemClock())

    assert note.seen == f"{names}: line 1 is no text in UTF-8 and matches nothing; save the list as UTF-8"


def test_a_list_that_says_nothing_is_noted_and_counts_as_none(tmp_path: Path) -> None:
    """As is one of which some lines say nothing: the others count."""
    (tmp_path / "hosting.txt").write_bytes(bytes(range(14, 256)))
    (tmp_path / "vpn.txt").write_text("# none yet\n")
    (tmp_path / "tor.txt").write_text("192.0.2.1\nnot an ip\n198.51.100.0/24\n")
    files = EnrichSection(
        hosting_lists=(tmp_path / "hosting.txt",),
        vpn_lists=(tmp_path / "vpn.txt",),
        tor_lists=(tmp_path / "tor.txt",),
    )
    detections = DetectionsSection(enabled=True, packs=("core",), enrich=files)
    *notes, lacks = check_enrichment(settings_with(tmp_path, detections), SystemClock())

    assert {one.verdict for one in notes} == {Verdict.NOTE}
    assert [one.seen for one in notes] == [
        f"{tmp_path / 'vpn.txt'}: has no line that is an address or a network",
        f"{tmp_path / 'hosting.txt'}: has no line that is an address or a network",
        f"{tmp_path / 'tor.txt'}: 1 line is no address or network, such as 'not'",
    ]
    assert "hosting_lists" in lacks.seen
    assert "vpn_lists" in lacks.seen
    assert "tor_lists" not in lacks.seen
