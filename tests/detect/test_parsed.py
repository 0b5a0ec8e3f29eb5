"""The packs, parsed beforehand: the same rules as their texts say, or nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from m365watch.detect import parsed
from m365watch.detect.library import PACKS_DIRECTORY, list_packs, load_packs
from m365watch.detect.parsed import parsed_text, read_parsed


def test_what_was_parsed_beforehand_is_what_the_texts_say() -> None:
    """Rule by rule, in the same order; if not, run ./dev docs."""
    library = load_packs()

    assert library.mistakes == ()
    assert read_parsed(PACKS_DIRECTORY, list_packs()) == library.rules


def test_what_was_parsed_beforehand_is_written_the_same_every_time() -> None:
    """Sets have no order, and the file has one."""
    rules = load_packs().rules

    assert parsed_text(rules, PACKS_DIRECTORY, list_packs()) == parsed.PARSED.read_text()


@pytest.mark.parametrize("change", ["other text", "a file more", "a file less"])
def test_packs_of_other_texts_are_parsed_anew(change: str, tmp_path: Path) -> None:
    """Whoever edits a rule of the packs gets the edited rule."""
    packs = tmp_path / "packs"
    shutil.copytree(PACKS_DIRECTORY, packs)
    names = list_packs()
    assert read_parsed(packs, names) is not None
    first = min((packs / names[0]).glob("*.yml"))

    match change:
        case "other text":
            first.write_text(first.read_text() + "# seen")
        case "a file more":
            (packs / names[0] / "zz.yml").write_text("")
        case _:
            first.unlink()

    assert read_parsed(packs, names) is None


def test_some_of_the_packs_alone_are_parsed() -> None:
    """The file is of all of them: a correlation may join rules of two."""
    assert read_parsed(PACKS_DIRECTORY, list_packs()[:1]) is None


def test_a_file_that_is_not_there_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source tree before the first ./dev docs, for instance."""
    monkeypatch.setattr(parsed, "PARSED", Path("/nowhere/parsed.json"))

    assert read_parsed(PACKS_DIRECTORY, list_packs()) is None
