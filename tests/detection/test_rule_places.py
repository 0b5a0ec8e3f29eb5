"""Where the user's own rules lie: mounted, in a folder of git, in one file; what is read is also watched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from m365watch.common.clock import SystemClock
from m365watch.config.models.detections import DetectionsSection
from m365watch.detection.factory import OwnRules
from m365watch.detection.rules.rule_library import Library, load_library
from rules import rule_text

RULE = rule_text({"s": {"Operation": "Send"}, "condition": "s"}, title="Mounted")
NO_RULE = "name: tests\non: push\n"


def mount(folder: Path, version: str, text: str) -> None:
    """The text as Kubernetes mounts it, at the top and in a folder: real files are in one that is hidden."""
    real = folder / f"..{version}"
    (real / "inner").mkdir(parents=True)
    (real / "rule.yml").write_text(text, encoding="utf-8")
    (real / "inner" / "other.yml").write_text(
        text.replace("Mounted", "Inner").replace("-000000000001", "-000000000002"), encoding="utf-8"
    )
    (folder / "..new").symlink_to(real.name)
    (folder / "..new").rename(folder / "..data")
    for name in ("rule.yml", "inner"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def unmount(folder: Path, version: str) -> None:
    """Let go of a former version, as Kubernetes does."""
    for path in sorted((folder / f"..{version}").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / f"..{version}").rmdir()


def load(place: Path) -> Library:
    """The rules of the place, which have no mistake."""
    library = load_library([place])
    assert [str(one) for one in library.mistakes] == []
    return library


def test_rules_that_are_mounted_are_read_once(tmp_path: Path) -> None:
    """Also of a folder that is a link into what is mounted."""
    mount(tmp_path, "2026_11_29", RULE)

    assert {(one.title, one.path) for one in load(tmp_path).rules} == {
        ("Mounted", f"{tmp_path.name}/rule.yml"),
        ("Inner", f"{tmp_path.name}/inner/other.yml"),
    }


def test_what_is_mounted_anew_is_taken_up(tmp_path: Path) -> None:
    """A run said for ever that nothing is changed: a mistake was another one in a folder of another name."""
    mount(tmp_path, "2026_11_29", RULE)
    own = OwnRules(DetectionsSection(packs=(), rules_directories=(tmp_path,)), SystemClock())
    own.begin()
    before = own.look()
    mount(tmp_path, "2026_11_30", RULE.replace("Send", "Receive"))
    unmount(tmp_path, "2026_11_29")
    looked, found = own.look(), own.read()

    assert looked != before
    assert found is not None
    assert {"Receive" in str(one.condition) or "receive" in str(one.condition) for one in found.rules} == {
        True
    }


def test_hidden_folders_and_files_are_no_rules(tmp_path: Path) -> None:
    """A repository keeps its own settings beside them; what an editor leaves is none either."""
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    (tmp_path / "lists").mkdir()
    for name in (".github/workflows/ci.yml", ".pre-commit-config.yaml", "._mine.yml"):
        (tmp_path / name).write_text(NO_RULE, encoding="utf-8")
    (tmp_path / "lists" / "._ops.txt").write_bytes(bytes(16))
    (tmp_path / "mine.yml").write_text(RULE, encoding="utf-8")

    assert [one.title for one in load(tmp_path).rules] == ["Mounted"]


def test_a_hidden_place_is_read_where_it_is_named(tmp_path: Path) -> None:
    """Who names it means it."""
    (tmp_path / ".rules").mkdir()
    (tmp_path / ".rules" / "mine.yml").write_text(RULE, encoding="utf-8")

    assert len(load(tmp_path / ".rules").rules) == 1


def test_links_that_lead_in_circles_or_away_are_not_followed(tmp_path: Path) -> None:
    """Nobody who links his rules to a folder of others means the rest of the disk."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "no.yml").write_text(NO_RULE, encoding="utf-8")
    rules = tmp_path / "rules"
    (rules / "a").mkdir(parents=True)
    (rules / "a" / "mine.yml").write_text(RULE, encoding="utf-8")
    (rules / "a" / "up").symlink_to(rules)
    (rules / "b").symlink_to("a")
    (rules / "out").symlink_to(tmp_path / "elsewhere")

    assert [one.path for one in load(rules).rules] == ["rules/a/mine.yml"]


@pytest.mark.parametrize("changed", ["mine.yml", "lists/ops.txt"])
def test_a_place_that_is_a_file_is_watched(tmp_path: Path, changed: str) -> None:
    """With the lists beside it, as it is read with them."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "ops.txt").write_text("Send\n", encoding="utf-8")
    (tmp_path / "mine.yml").write_text(RULE, encoding="utf-8")
    own = OwnRules(DetectionsSection(packs=(), rules_directories=(tmp_path / "mine.yml",)), SystemClock())
    before = own.look()
    os.utime(tmp_path / changed, (1, 1))

    assert own.look() != before


def test_lists_in_a_folder_that_is_a_link_are_watched(tmp_path: Path) -> None:
    """They are read, wherever it leads."""
    rules, lists = tmp_path / "rules", tmp_path / "shared"
    rules.mkdir()
    lists.mkdir()
    (lists / "ops.txt").write_text("Send\n", encoding="utf-8")
    (rules / "lists").symlink_to(lists)
    own = OwnRules(DetectionsSection(packs=(), rules_directories=(rules,)), SystemClock())
    before = own.look()
    os.utime(lists / "ops.txt", (1, 1))

    assert own.look() != before
