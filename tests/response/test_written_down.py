"""What a full disk leaves of the journal, and what is said then of what was done."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from promises import guarantee

from alerts import ANN
from halting_scene import Halting, desk_of, disable, lines_in, outcomes
from m365watch.cli.respond.plan_execution import apply_plan
from m365watch.common.errors import JournalUnreadable, JournalUnwritable, NeedsOperator, Unavailable
from m365watch.response.execution.response_executor import Came, Desk, Told
from m365watch.response.execution.step_actions import Document
from m365watch.response.journal import FILE_NAME, Journal
from m365watch.response.steps.step import GraphCall
from m365watch.storage.database import connect
from m365watch_testing.clock import FakeClock
from responding_scene import Scene, in_scene


@contextmanager
def room_for(octets: int) -> Iterator[None]:
    """No file grows past that size, as if the disk were full."""
    before, compiled = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    # Python keeps half of a module that it compiles here, and no later process can import that.
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = compiled


class Filling(Halting):
    """Graph during whose changes the disk becomes full."""

    async def ask(self, call: GraphCall) -> Document:
        try:
            return await super().ask(call)
        finally:
            if self.changed:
                resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def carried_out(folder: Path, graph: Halting, *, octets: int = resource.RLIM_INFINITY) -> list[Told]:
    """What is told of a plan's first step."""
    plan = disable()
    with room_for(octets):
        return asyncio.run(desk_of(plan, graph, Journal(folder)).carry_out(plan.steps[0]))


@guarantee(40)
def test_where_nothing_can_be_written_down_nothing_is_done(tmp_path: Path) -> None:
    """A short write passed as success: the account was disabled, and nobody could take it back."""
    graph = Halting(None)
    [told] = carried_out(tmp_path, graph, octets=150)

    assert told.came is Came.FAILED
    assert isinstance(told.error, JournalUnwritable)
    assert "cannot be written down, and so it was not done: " in told.error.what
    assert graph.changed == []
    assert Journal(tmp_path).list_deeds(disable().alert_id) == []


@guarantee(40)
def test_what_was_done_is_never_told_as_not_done(tmp_path: Path) -> None:
    """Of the line that says what came of it, the same was said: "nothing is done". It can be taken back."""
    graph = Filling(None)
    [told] = carried_out(tmp_path, graph)

    assert told.came is Came.UNWRITTEN
    assert told.error is not None
    assert "the result cannot be written down: " in told.error.what
    assert len(graph.changed) == 1
    assert outcomes(tmp_path) == ["begun"]
    [left] = Journal(tmp_path).to_undo(disable().alert_id)
    assert not left.is_certain


def test_what_failed_is_told_as_well_as_that_it_cannot_be_written(tmp_path: Path) -> None:
    """The reason of Graph would be lost with the line."""
    [told] = carried_out(tmp_path, Filling(Unavailable("HTTP 504")))

    assert told.came is Came.FAILED
    assert told.error is not None
    assert told.error.what.startswith("HTTP 504; and that cannot be written down: ")


def test_what_was_taken_back_is_told_so(tmp_path: Path) -> None:
    """And a second time a person looks first."""
    plan, journal, graph = disable(), Journal(tmp_path), Halting(None)
    asyncio.run(desk_of(plan, graph, journal).carry_out(plan.steps[0]))
    [done] = journal.to_undo(plan.alert_id)
    graph = Filling(None)
    graph.enabled = False
    with room_for(resource.RLIM_INFINITY):
        told = asyncio.run(desk_of(plan, graph, journal).undo(done))

    assert told.came is Came.UNWRITTEN
    assert graph.enabled
    assert [one.is_begun for one in journal.to_undo(plan.alert_id)] == [True]


def test_a_line_that_does_not_fit_leaves_the_others_whole(tmp_path: Path) -> None:
    """Nothing is left of it."""
    plan, journal = disable(), Journal(tmp_path)
    asyncio.run(desk_of(plan, Halting(None), journal).carry_out(plan.steps[0]))
    before = lines_in(tmp_path)
    [line] = [one.line for one in journal.to_undo(plan.alert_id)]
    with room_for(150), pytest.raises(JournalUnwritable):
        journal.write(line)

    assert lines_in(tmp_path) == before
    assert ANN in journal.list_deeds(plan.alert_id)[0].title


def test_it_is_read_while_somebody_writes_it(tmp_path: Path) -> None:
    """By the page of the alert, and by commands."""
    plan, journal = disable(), Journal(tmp_path)
    asyncio.run(desk_of(plan, Halting(None), journal).carry_out(plan.steps[0]))
    with closing(connect(journal.path)) as file, file.transaction():
        file.execute("INSERT INTO response (alert, tenant, line) VALUES ('b', 't', x'7b7d')")

        assert [one.outcome for one in journal.list_deeds(plan.alert_id)] == ["done"]


def test_a_damaged_file_is_told_and_nothing_is_done(tmp_path: Path) -> None:
    """Nobody is told that nothing was done, and nothing is written over it."""
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
    graph = Halting(None)

    with pytest.raises(JournalUnreadable, match=f"{FILE_NAME}.*; move a damaged one away"):
        Journal(tmp_path).list_deeds("a")
    with pytest.raises(JournalUnreadable):
        carried_out(tmp_path, graph)
    assert graph.changed == []
    assert (tmp_path / FILE_NAME).read_bytes() == b"no database" * 100


def test_nothing_more_is_begun_once_it_cannot_be_written(tmp_path: Path) -> None:
    """Every further step would ask, fail of the same, and say so again."""

    async def test(scene: Scene) -> None:
        plan = scene.plan("disable_account", "revoke_sessions", user=ANN)
        said: list[str] = []
        with room_for(150):
            results = await asyncio.to_thread(
                apply_plan, scene.settings, plan, numbers=[], asks=False, even_last=False, say=said.append
            )

        assert [one.told.came for one in results] == [Came.FAILED]
        assert said[1].startswith(
            f"1. {plan.steps[0].title}: failed: it cannot be written down, and so it was"
        )
        assert said[2:] == ["stopped: nothing more is done while it cannot be written down"]
        assert scene.directory.users[ANN]["sessions"] == 1

    in_scene(tmp_path, test)


def test_who_fails_to_take_something_back_has_not_done_it(tmp_path: Path) -> None:
    """Whom to ask why an account is disabled, and when that was, stays told."""
    plan, journal, graph = disable(), Journal(tmp_path), Halting(None)
    asyncio.run(desk_of(plan, graph, journal).carry_out(plan.steps[0]))
    [done] = journal.to_undo(plan.alert_id)
    graph.error = NeedsOperator("HTTP 403", fix="give the permission")
    other = Desk(plan, graph, journal, clock=FakeClock(), by="bea", ask=None)

    assert asyncio.run(other.undo(done)).came is Came.FAILED
    [told] = journal.list_deeds(plan.alert_id)
    assert (told.outcome, told.by, told.at) == ("done", "tester", done.line.at)
    assert [one.is_certain for one in journal.to_undo(plan.alert_id)] == [True]


def test_what_failed_and_is_so_by_now_does_not_end_with_the_failure(tmp_path: Path) -> None:
    """Somebody did it by hand meanwhile. What was done, and is so again, is told once."""
    plan, journal, graph = disable(), Journal(tmp_path), Halting(NeedsOperator("HTTP 403", fix="look"))
    desk = desk_of(plan, graph, journal)

    def carry_out() -> Came:
        [told] = asyncio.run(desk.carry_out(plan.steps[0]))
        return told.came

    def told() -> list[str]:
        return [one.outcome for one in journal.list_deeds(plan.alert_id)]

    assert carry_out() is Came.FAILED
    graph.error, graph.enabled = None, False
    assert (carry_out(), carry_out()) == (Came.ALREADY, Came.ALREADY)
    assert told() == ["failed", "already so"]
    graph.enabled = True
    assert (carry_out(), carry_out()) == (Came.DONE, Came.ALREADY)
    assert told() == ["failed", "already so", "done"]
    for done in journal.to_undo(plan.alert_id):
        asyncio.run(desk.undo(done))
    assert told() == ["failed", "already so", "undone"]
