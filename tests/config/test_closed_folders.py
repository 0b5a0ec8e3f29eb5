"""A folder that this user may not enter is told with its cure, wherever a configuration leads there."""

from __future__ import annotations

import codecs
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.cli.terminal.error_output import hide_tracebacks
from m365watch.common.errors import LedgerUnusable
from m365watch.common.file_access import (
    is_file,
    is_folder,
    is_there,
    list_below,
    nearest_folder,
    why_closed,
    why_unwritable,
)
from m365watch.config.document import Unreadable, read_text
from m365watch.config.models.detections import DetectionsSection
from m365watch.detection.factory import list_unread, load_exceptions, load_rules
from m365watch.detection.rules.rule_library import PACKS_DIRECTORY, load_library
from m365watch.http.tls import check_authorities
from m365watch.ledger.queries import require_ledger

NOBODY = 65_534
CLOSED = f"a folder above it is closed to user {NOBODY}, who runs this"
RULE = """\
title: {}
logsource: {{product: m365, service: exchange}}
detection: {{s: {{Operation: A}}, condition: s}}
level: high
"""
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder of root's alone, with a file and a folder in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Path(folder, "closed")
        (place / "rules").mkdir(parents=True)
        (place / "c.yaml").write_text("inputs: {}\n", encoding="utf-8")
        place.chmod(0o700)
        Path(folder).chmod(0o755)
        yield place


@contextmanager
def as_nobody() -> Iterator[None]:
    # Python, too, may be closed to that user, and remembers for good which encodings it has not found.
    codecs.lookup("utf-8-sig")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@only_root
def test_what_lies_behind_a_closed_door_is_not_there_and_it_is_said_why(closed: Path) -> None:
    with as_nobody():
        assert not any(look(closed / "c.yaml") for look in (is_there, is_file, is_folder))
        assert why_closed(closed / "c.yaml") == CLOSED
        assert why_closed(closed.parent / "nothing") == ""
        assert nearest_folder(closed / "rules" / "new") == closed
        unwritable = why_unwritable(closed / "rules")
        assert unwritable is not None
        assert unwritable.why == CLOSED

    assert is_file(closed / "c.yaml")
    assert is_folder(closed / "rules")


@only_root
def test_a_configuration_behind_a_closed_door_is_refused_with_the_cure(closed: Path) -> None:
    with as_nobody(), pytest.raises(Unreadable, match="is closed to user") as refused:
        read_text(closed / "c.yaml")

    assert "sudo -u" in (refused.value.fix or "")


@only_root
def test_authorities_behind_a_closed_door_are_refused(closed: Path) -> None:
    with as_nobody(), pytest.raises(ValueError, match="is closed to user"):
        check_authorities(closed / "ca.pem")


@only_root
def test_rules_behind_a_closed_door_leave_the_packs_in_force(closed: Path) -> None:
    """Nobody judged a record while the folder of one's own rules was closed."""
    with as_nobody():
        library = load_library([PACKS_DIRECTORY / "devo", closed / "rules"])

        watched = list_below(closed / "rules").files

    assert watched == []
    assert len(library.rules) > 5
    assert [one for one in map(str, library.mistakes) if "closed" in one] == [f"{closed / 'rules'}: {CLOSED}"]


@only_root
def test_a_folder_of_rules_that_is_closed_itself_is_told(closed: Path) -> None:
    """Its rules would be off without a word: what may not be listed looks as if it were empty."""
    with as_nobody():
        library = load_library([PACKS_DIRECTORY / "devo", closed])

    assert len(library.rules) > 5
    assert [str(one) for one in library.mistakes] == [
        f"{closed}: it is closed to user {NOBODY}, who runs this"
    ]


@guarantee(29)
@only_root
def test_a_closed_folder_and_a_closed_file_among_the_rules_are_told(closed: Path) -> None:
    """Below an open one; the rule beside them is in force."""
    closed.chmod(0o755)
    rules = closed / "rules"
    (inner := rules / "inner").mkdir()
    for path in (inner / "a.yml", rules / "b.yml", rules / "c.yml"):
        path.write_text(RULE.format(path.stem), encoding="utf-8")
    inner.chmod(0o700)
    (rules / "b.yml").chmod(0o600)
    settings = DetectionsSection(enabled=True, packs=(), rules_directories=(rules,))
    with as_nobody():
        library, unread = load_rules(settings), list_unread(settings)

    assert [rule.title for rule in library.rules] == ["c"]
    assert [one.line for one in unread] == [str(one) for one in library.mistakes]
    assert [one.is_closed for one in unread] == [True, True]
    assert unread[0].line == f"{inner}: it is closed to user {NOBODY}, who runs this"
    assert unread[1].line.startswith(
        "rules/b.yml: cannot be read: Permission denied: it is a file of user 0 "
    )


@only_root
def test_exceptions_behind_a_closed_door_are_told_once(closed: Path) -> None:
    """As they are read and as they are looked for, in the same words."""
    settings = DetectionsSection(enabled=True, packs=(), exceptions_file=closed / "c.yaml")
    with as_nobody():
        _, lines = load_exceptions(settings)
        unread = list_unread(settings)

    assert [(one.line, one.is_closed) for one in unread] == [(lines[0], True)]
    assert unread[0].line == f"{closed}/c.yaml: cannot be read: Permission denied: {CLOSED}"


@only_root
def test_a_ledger_behind_a_closed_door_is_told_as_such(closed: Path) -> None:
    """And not that there is none yet."""
    with as_nobody(), pytest.raises(LedgerUnusable, match=r"cannot be read: .* is closed to user"):
        require_ledger(closed / "rules" / "ledger.sqlite")


def test_what_nobody_foresaw_is_told_as_a_refusal_and_not_to_be_reported(
    closed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In any command, and however deep it was asked: which file, and who is not let in."""
    before = sys.excepthook
    try:
        hide_tracebacks(["status"])
        sys.excepthook(PermissionError, PermissionError(13, "Permission denied", str(closed / "x")), None)
    finally:
        sys.excepthook = before

    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"error: {closed}/x: permission denied to user {os.geteuid()}, who runs this"
    assert said[1].startswith("hint: run it as the user")
    assert len(said) == 2
