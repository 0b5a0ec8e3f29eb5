"""The rules that pages know: read again when their files have changed, by many threads at once."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from m365watch.board.query.data_sources import Sources
from m365watch_testing.clock import FakeClock
from rules import RULE_ID, load_good, rule_text


def test_rules_that_change_while_they_are_read_are_read_all_the_same(
    sources: Sources, tmp_path: Path
) -> None:
    """Every request of somebody without sight of contents asks for them, in a thread of its own.

    Between any two lines of the reading another thread may have read the files as they are by then.
    """
    load_good(tmp_path, rule_text({"s": {"Operation": "Send"}, "condition": "s"}))
    detections = sources.settings.detections.model_copy(
        update={"rules_directories": (tmp_path / "rules",), "packs": ()}
    )
    there = Sources(replace(sources.settings, detections=detections), None, FakeClock())
    changes: list[int] = []

    def trace_line(_frame: FrameType, kind: str, _: Any) -> Any:
        if kind == "line":
            sys.settrace(None)
            changes.append(len(changes))
            os.utime(tmp_path / "rules" / "mine.yml", (changes[-1], changes[-1]))
            assert [one.id for one in there._read_rules().rules] == [RULE_ID]
            sys.settrace(trace_call)
        return trace_line

    def trace_call(frame: FrameType, _kind: str, _: Any) -> Any:
        return trace_line if frame.f_code is Sources._read_rules.__code__ else None

    before = sys.gettrace()
    sys.settrace(trace_call)
    try:
        library = there._read_rules()
    finally:
        sys.settrace(before)

    assert [one.id for one in library.rules] == [RULE_ID]
    assert len(changes) > 3


def test_packs_that_are_configured_meanwhile_are_read(sources: Sources) -> None:
    """The board goes on with the settings as they stand in the file, and no file of rules has changed."""
    there = Sources(sources.settings, None, FakeClock())
    packed = [one.id for one in there._read_rules().rules]

    there.settings = replace(
        sources.settings, detections=sources.settings.detections.model_copy(update={"packs": ()})
    )

    assert packed
    assert there._read_rules().rules == ()
