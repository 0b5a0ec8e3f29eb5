"""Two people respond at once: one waits, and neither takes from the other the last administrator."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from promises import guarantee

from alerts import ANN, make_alert, make_match
from m365watch.cli.respond.plan_execution import apply_plan, undo_plan
from m365watch.cli.terminal.error_output import exit_code_of
from m365watch.common.errors import NeedsOperator, ResponseHeld
from m365watch.detection.alerts.alert import AlertId
from m365watch.response.execution.response_executor import LOCK_FILE, Came, Desk, turn_held
from m365watch.response.execution.step_actions import Document
from m365watch.response.journal import Journal
from m365watch.response.plans.planner import plan_response
from m365watch.response.steps.step import GraphCall, Plan
from m365watch.storage.database import connect
from m365watch_testing.clock import FakeClock
from responding_scene import ADMIN, EVE, GLOBAL, Scene, in_scene
from test_last_administrators import Stale

HOLDER = """
import sys, time
from pathlib import Path
from m365watch.response.execution.response_executor import turn_held
with turn_held(Path(sys.argv[1]), by="bob", alert="abcd1234"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def somebody_responding(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that carries out a plan."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@guarantee(40)
@pytest.mark.parametrize("verb", ["--apply", "--undo"])
def test_while_somebody_responds_a_second_one_is_told_who_and_does_nothing(tmp_path: Path, verb: str) -> None:
    """Each saw the other's administrator enabled, and both went."""

    async def test(scene: Scene) -> None:
        plan = scene.plan("disable_account", user=ANN)
        said: list[str] = []

        def respond() -> object:
            if verb == "--undo":
                return undo_plan(scene.settings, plan, formerly=(), asks=False, say=said.append)
            return apply_plan(scene.settings, plan, numbers=[], asks=False, even_last=True, say=said.append)

        with somebody_responding(scene.settings.state_directory) as other:
            with pytest.raises(ResponseHeld) as refused:
                await asyncio.to_thread(respond)
            host = socket.gethostname()
            assert f"pid {other.pid} on {host}, bob, for the alert abcd1234" in refused.value.what
            # A terminal that was left at a question blocked everybody, and "wait" was all that was said.
            assert "end that process if it was left at a question" in refused.value.fix
            assert not said
            assert not scene.journal.path.exists()
            assert scene.directory.users[ANN]["accountEnabled"]
        await asyncio.to_thread(respond)
        assert scene.directory.users[ANN]["accountEnabled"] is (verb == "--undo")

    in_scene(tmp_path, test)


@guarantee(40)
def test_who_was_killed_at_it_leaves_nothing_behind(tmp_path: Path) -> None:
    """Whatever the file still says: nobody removes anything by hand."""
    with somebody_responding(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()

        assert "bob" in (tmp_path / LOCK_FILE).read_text()
        with turn_held(tmp_path, by="eve", alert="f" * 32):
            assert "eve, for the alert ffffffff" in (tmp_path / LOCK_FILE).read_text()


def test_where_the_lock_cannot_be_had_nothing_is_done(tmp_path: Path) -> None:
    """One line says which file, and why."""
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(NeedsOperator) as refused, turn_held(tmp_path, by="eve", alert="f" * 32):
        pass

    assert refused.value.where == str(tmp_path / LOCK_FILE)
    assert "Is a directory" in refused.value.what
    assert exit_code_of(refused.value) == 1


LATE = {"ModifiedProperties.Role.TemplateId.new": GLOBAL}


def plan_of(word: str, user: str, *, alert: str, tenant: str = "t") -> Plan:
    """A plan for an administrator, of an alert of its own."""
    meant = replace(make_alert(word, user=user), id=AlertId(alert * 32))
    return replace(plan_response(meant, [make_match(ADMIN | LATE)]), tenant=tenant)


def desk_at(folder: Path, plan: Plan, graph: Stale, clock: FakeClock) -> Desk:
    """Another process's desk at the same state directory."""
    return Desk(plan, graph, Journal(folder), clock=clock, by="tester", ask=None)


async def carried_out(folder: Path, plan: Plan, graph: Stale, clock: FakeClock) -> Came:
    [step] = plan.steps
    [told] = await desk_at(folder, plan, graph, clock).carry_out(step)
    if told.came is Came.REFUSED:
        assert told.error is not None
        assert "no other Global Administrator is enabled" in told.error.what
        assert "the last hour" in told.error.what
    return told.came


@guarantee(39)
@pytest.mark.parametrize("first", ["disable_account", "remove_role"])
@pytest.mark.parametrize("second", ["disable_account", "remove_role"])
@pytest.mark.parametrize(
    ("tenant", "after_s", "came"),
    [("t", 5, Came.REFUSED), ("t", 3_601, Came.DONE), ("another", 5, Came.DONE)],
    ids=["seconds later", "once Graph knows", "in another tenant"],
)
def test_whom_another_process_has_just_locked_out_is_not_one_that_is_left(
    tmp_path: Path, first: str, second: str, tenant: str, after_s: int, came: Came
) -> None:
    """Graph still told of the first one, which an alert before had disabled, and the last one went, too."""

    async def test() -> None:
        graph, clock = Stale("ann", "eve"), FakeClock()
        mine = plan_of(first, ANN, alert="a")
        assert await carried_out(tmp_path, mine, graph, clock) is Came.DONE
        await clock.advance(after_s)
        other = plan_of(second, EVE, alert="b", tenant=tenant)
        assert await carried_out(tmp_path, other, graph, clock) is came
        assert len(graph.done) == 1 + (came is Came.DONE)

    asyncio.run(test())


@guarantee(39)
def test_who_was_let_in_again_counts_as_one_that_is_left(tmp_path: Path) -> None:
    """What was taken back is no lock-out; what may have been is one."""

    async def test() -> None:
        graph, clock, journal = Stale("ann", "eve"), FakeClock(), Journal(tmp_path)
        mine = plan_of("remove_role", ANN, alert="a")
        other = plan_of("remove_role", EVE, alert="b")
        assert await carried_out(tmp_path, mine, graph, clock) is Came.DONE
        [done] = journal.to_undo(mine.alert_id)
        assert (await desk_at(tmp_path, mine, graph, clock).undo(done)).came is Came.DONE
        with closing(connect(journal.path)) as file:
            [last] = file.execute(
                "DELETE FROM response WHERE number = (SELECT max(number) FROM response) RETURNING *"
            ).fetchall()
        assert await carried_out(tmp_path, other, graph, clock) is Came.REFUSED
        with closing(connect(journal.path)) as file:
            file.execute("INSERT INTO response VALUES (?, ?, ?, ?)", last)
        assert await carried_out(tmp_path, other, graph, clock) is Came.DONE

    asyncio.run(test())


def test_a_change_that_graph_refused_locked_nobody_out(tmp_path: Path) -> None:
    """The first one is still there, so that the second may go."""

    class Refusing(Stale):
        async def ask(self, call: GraphCall) -> Document:
            if call.method != "GET":
                raise NeedsOperator("HTTP 403", fix="give the permission")
            return await super().ask(call)

    async def test() -> None:
        clock = FakeClock()
        mine, other = plan_of("disable_account", ANN, alert="a"), plan_of("disable_account", EVE, alert="b")
        assert await carried_out(tmp_path, mine, Refusing("ann", "eve"), clock) is Came.FAILED
        assert await carried_out(tmp_path, other, Stale("ann", "eve"), clock) is Came.DONE

    asyncio.run(test())
