"""The trail's room on disk is bounded, and it is told where that has cost lines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from promises import guarantee

from asking import view_of
from m365watch.board.access.audit_journal import TrailJournal
from m365watch.board.access.audit_recorder import KeptTrail
from m365watch.board.pages import audit_trail as trail_page
from m365watch.board.pages.health import issues as health_needs
from m365watch.board.query.data_sources import Sources
from m365watch.board.widgets.widget_types import Grid, Several
from m365watch_testing.clock import FakeClock
from test_trail import deed, waiting


@guarantee(46)
def test_lines_that_had_to_go_are_told(
    tmp_path: Path, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a lake 66 of 100 lines went without a word: the log, the Trail and Health say how many."""
    journal = TrailJournal(tmp_path, lake=lambda: None, collector_name="one", bytes_max=4_000)
    trail = KeptTrail(journal, clock=FakeClock())
    for number in range(100):
        journal.append([deed(name=f"{number}")])
        if not trail.loss:
            assert len(waiting(tmp_path)) == number + 1
    left = len(waiting(tmp_path))
    loss = f"{100 - left} lines until 2026-11-27 12:00:00 UTC had to go"

    assert trail.loss.startswith(loss)
    assert loss in capsys.readouterr().out
    theirs = replace(sources, trail_loss=lambda: trail.loss)
    needs = asyncio.run(health_needs.needs(view_of("range=1h"), theirs))
    assert [loss in one.text for one in needs.rows].count(True) == 1
    for narrowed in ("range=1h", "range=1h&user=nobody"):
        shape = asyncio.run(trail_page.deeds(view_of(narrowed), theirs))
        assert isinstance(shape, Several)
        [grid] = shape.parts
        assert isinstance(grid, Grid)
        assert loss in (grid.empty.then if grid.empty else grid.cut)
    trail.close()
