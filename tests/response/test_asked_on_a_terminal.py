"""What a person at a terminal meets: a question that Ctrl-C ends, the tenant, waits, and what stays gone."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from multidict import CIMultiDict
from patience import PATIENCE_S

from alerts import ANN, hides
from halting_scene import Halting, desk_of
from m365watch.cli.respond.plan_execution import apply_plan, undo_plan
from m365watch.common.errors import Unavailable
from m365watch.http.client import Answer
from m365watch.response.execution.response_executor import Came
from m365watch.response.journal import Journal
from m365watch.response.steps.step import GraphCall
from m365watch_testing.clock import FakeClock
from responding_scene import DELETES, EVE, RULES, Scene, in_scene, make_administrators
from test_graph_asked_again import Server, Tokens, answered, client

ASKS = """
from m365watch.cli.event_loop import run_in_loop
from m365watch.cli.respond.plan_execution import ask_on_terminal
run_in_loop(ask_on_terminal("Do it?"))
"""


def test_ctrl_c_at_a_question_ends_the_command() -> None:
    """As it ends any other, and not with "Aborted!" and the code of a failure; once it hung until Enter."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", ASKS], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    try:
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(ours, 4096)
        time.sleep(0.2)  # until it reads
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=PATIENCE_S) == -signal.SIGINT
    finally:
        child.kill()
        child.wait()
        os.close(ours)
        os.close(theirs)


def test_who_ends_it_at_a_question_is_told_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some of the steps are done by then, and the intruder may be in still."""
    asked: list[str] = []

    async def ask_twice(question: str) -> bool:
        asked.append(question)
        if len(asked) == 2:
            raise typer.Abort
        return True

    async def test(scene: Scene) -> None:
        plan = scene.plan("revoke_sessions", "disable_account", user=ANN)
        with pytest.raises(typer.Abort):
            await asyncio.to_thread(
                apply_plan, scene.settings, plan, numbers=[], asks=True, even_last=False, say=lambda _: None
            )

        told = f"not done: step 2; `m365watch respond {plan.alert_id[:8]} --apply` goes on"
        assert capsys.readouterr().err.splitlines()[-1] == told

    monkeypatch.setattr("m365watch.cli.respond.plan_execution.ask_on_terminal", ask_twice)
    in_scene(tmp_path, test)


def test_the_tenant_is_named_before_anything_is_asked_or_done(tmp_path: Path) -> None:
    """Two tenants of one provider may have an account of the same name."""

    async def test(scene: Scene) -> None:
        plan = scene.plan("revoke_sessions", user=ANN)
        said: list[str] = []
        await asyncio.to_thread(
            apply_plan, scene.settings, plan, numbers=[], asks=False, even_last=False, say=said.append
        )

        assert said[0] == f"in the tenant {scene.tenant}, for the alert {plan.alert_id[:8]}:"

    in_scene(tmp_path, test)


def test_what_is_to_be_seen_first_is_told_before_anything_is_asked_or_done(tmp_path: Path) -> None:
    """It stood in the plan alone, and `--apply` asked for each step without a word of it."""

    async def test(scene: Scene) -> None:
        plan = replace(scene.plan("revoke_sessions", user=ANN), checks=("Is it Ann at work?",))
        said: list[str] = []
        await asyncio.to_thread(
            apply_plan, scene.settings, plan, numbers=[], asks=False, even_last=False, say=said.append
        )

        assert said[1:] == ["see first: Is it Ann at work?", f"1. End all sessions of {ANN}: done"]

    in_scene(tmp_path, test)


def test_who_may_have_done_it_themselves_is_said_with_the_question(tmp_path: Path) -> None:
    """Whoever says yes locks out an administrator at work."""

    async def test(scene: Scene) -> None:
        make_administrators(scene, ANN, EVE)
        asked: list[str] = []
        plan = scene.plan("disable_account", actor=ANN)
        await scene.apply(plan, says=False, asked=asked)

        [question] = asked
        first, last = question.splitlines()
        assert first.startswith("Ask first whether they did it themselves")
        assert last.startswith(f"1. Disable the account {ANN}")

    in_scene(tmp_path, test)


def test_the_tenant_is_named_before_anything_is_taken_back(tmp_path: Path) -> None:
    """As before it was done."""

    async def test(scene: Scene) -> None:
        plan = scene.plan("revoke_sessions", user=ANN)
        said: list[str] = []
        await asyncio.to_thread(undo_plan, scene.settings, plan, formerly=(), asks=False, say=said.append)

        assert said == [f"in the tenant {scene.tenant}, for the alert {plan.alert_id[:8]}:"]

    in_scene(tmp_path, test)


@pytest.mark.parametrize("user", [ANN, "mallory_rival.example#EXT#@contoso.example"])
def test_who_enables_an_account_again_hears_of_its_password(tmp_path: Path, user: str) -> None:
    """It was enabled without a word, and whoever had stolen the password was in; a guest's is elsewhere."""

    async def test(scene: Scene) -> None:
        scene.directory.add_user(user)
        make_administrators(scene, EVE)
        plan = scene.plan("disable_account", user=user)
        await scene.apply(plan)
        asked: list[str] = []
        await scene.undo(plan, says=False, asked=asked)
        [told] = await scene.undo(plan)

        assert told.came is Came.DONE
        assert len(asked) == 1
        for said in (asked[0], told.label):
            assert ("; it keeps its password, and needs a new one" in said) == (user == ANN)

    in_scene(tmp_path, test)


def test_what_cannot_be_taken_back_is_told(tmp_path: Path) -> None:
    """`--undo` was silent of it, as if all were as before."""

    async def test(scene: Scene) -> None:
        plan = scene.plan("disable_account", "revoke_sessions", user=ANN)
        await scene.apply(plan)
        said: list[str] = []
        await asyncio.to_thread(undo_plan, scene.settings, plan, formerly=(), asks=False, say=said.append)

        assert said[-1] == f"stays as it is: End all sessions of {ANN}"
        assert len([line for line in said if line.startswith("stays")]) == 1

    in_scene(tmp_path, test)


def test_what_is_taken_back_stands_in_no_brackets(tmp_path: Path) -> None:
    """What an account keeps read as a part of the account's name."""

    async def test(scene: Scene) -> None:
        make_administrators(scene, EVE)
        plan = scene.plan("disable_account", user=ANN)
        await scene.apply(plan)
        said: list[str] = []
        await asyncio.to_thread(undo_plan, scene.settings, plan, formerly=(), asks=False, say=said.append)

        told = f"undo: Disable the account {ANN}; it keeps its password, and needs a new one"
        assert said[1:] == [f"{told} where that may be known: done"]

    in_scene(tmp_path, test)


def test_what_an_earlier_try_may_have_removed_is_told_so(tmp_path: Path) -> None:
    """A DELETE was done and answered 504: "nothing of that name is there" sent people looking for it."""

    async def test(scene: Scene) -> None:
        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=hides(".."))
        lost = desk_of(plan, Halting(Unavailable("HTTP 504")), scene.journal)
        assert [one.came for one in await lost.carry_out(plan.steps[0])] == [Came.FAILED]
        scene.directory.lists[RULES].clear()
        [told] = await scene.apply(plan)

        assert told.came is Came.MISSING
        assert "an earlier try whose answer never came may have removed it" in told.label

    in_scene(tmp_path, test)


def test_a_wait_is_told_and_a_read_is_asked_again(tmp_path: Path) -> None:
    """Two minutes without a word look like a hang; a read may be repeated whatever became of it."""
    busy = Answer(429, CIMultiDict({"Retry-After": "7"}), b"")
    down, good = Answer(503, CIMultiDict[str](), b""), Answer(200, CIMultiDict[str](), b"{}")
    clock, waits = FakeClock(jumps=True), list[float]()
    graph = client(Server(busy, down, good), Tokens(), clock, on_wait=waits.append)

    assert answered(lambda: graph.ask(GraphCall("GET", "/x"))) == {}
    assert waits == clock.slept_s == [7, 5]


def test_a_change_that_may_have_been_done_is_not_sent_again(tmp_path: Path) -> None:
    """Of what is made twice there are two."""
    graph = client(Server(Answer(503, CIMultiDict[str](), b"")), Tokens(), FakeClock())

    assert isinstance(answered(lambda: graph.ask(GraphCall("POST", "/x"))), Unavailable)


def test_nothing_is_said_to_stay_that_was_not_done(tmp_path: Path) -> None:
    assert Journal(tmp_path).list_gone("a" * 32) == []
