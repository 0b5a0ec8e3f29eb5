"""The lists that rules name, as editors and shells save them."""

from __future__ import annotations

from pathlib import Path

import pytest

from m365watch.detection.rules.rule_library import Library, load_library
from rules import alerts_of, record, rule_text

LISTED = rule_text({"s": {"Operation|expand": "%ops%"}, "condition": "s"})
UNLESS = rule_text(
    {"s": {"Operation": "Send"}, "f": {"UserId|expand": "%ops%"}, "condition": "s and not f"},
    title="But for some",
    id="5f1c6c0e-7d0b-4a51-9a4e-000000000002",
)
TEXT = "New-InboxRule\r\nSet-InboxRule\r\n"


def load(directory: Path, content: bytes) -> Library:
    """The rules beside a list of that content."""
    (directory / "rules" / "lists").mkdir(parents=True)
    (directory / "rules" / "lists" / "ops.txt").write_bytes(content)
    (directory / "rules" / "mine.yml").write_text(f"{LISTED}---\n{UNLESS}", encoding="utf-8")
    return load_library([directory / "rules"])


def told(directory: Path, library: Library) -> list[str]:
    """What is said of the list; then what of the rules."""
    return [str(one).replace(str(directory), "") for one in library.mistakes]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_is_read_whole_whatever_mark_it_begins_with(tmp_path: Path, encoding: str) -> None:
    """An editor's mark is no part of the first line, and PowerShell writes UTF-16."""
    library = load(tmp_path, TEXT.encode(encoding))
    found = alerts_of(library, [record(1, Operation="New-InboxRule"), record(2, Operation="Set-InboxRule")])

    assert library.mistakes == ()
    assert [one.count for one in found] == [2]


def test_rules_in_utf_16_are_read_too(tmp_path: Path) -> None:
    """As YAML has it."""
    (tmp_path / "mine.yml").write_text(UNLESS.replace("expand", "startswith"), encoding="utf-16")
    library = load_library([tmp_path])

    assert (len(library.rules), library.mistakes) == (1, ())


def test_a_list_in_an_encoding_that_nothing_tells_is_a_mistake(tmp_path: Path) -> None:
    """Read as UTF-8 it would have no line that anything is like."""
    library = load(tmp_path, TEXT.encode("utf-16-le"))

    assert library.rules == ()
    assert told(tmp_path, library)[0] == (
        "/rules/lists/ops.txt: is no text in UTF-8, nor in UTF-16 with its mark; save it as UTF-8"
    )


def test_a_line_in_another_encoding_is_named_and_the_others_work(tmp_path: Path) -> None:
    """It would match nothing without a word; a remark may be in any."""
    library = load(tmp_path, "# für alle\nNew-InboxRule\nTür\n".encode("latin-1"))

    assert told(tmp_path, library) == [
        "/rules/lists/ops.txt:3: is no text in UTF-8 and matches nothing; save the list as UTF-8"
    ]
    assert len(library.rules) == 2
    assert alerts_of(library, [record(Operation="New-InboxRule")]) != []


def test_a_list_of_nothing_is_named_and_its_rules_work(tmp_path: Path) -> None:
    """What looks for one of it finds nothing; what leaves out those of it has to go on."""
    library = load(tmp_path, b"\n")

    assert told(tmp_path, library) == [
        "/rules/lists/ops.txt: is empty; if that is meant, say so in a line that begins with #"
    ]
    assert [one.title for one in alerts_of(library, [record(Operation="Send")])] == ["But for some"]


def test_a_list_may_be_kept_for_later(tmp_path: Path) -> None:
    """As one of the packs is: a remark says what belongs into it."""
    assert load(tmp_path, b"# none yet\n").mistakes == ()
