"""The hunt itself: what has to be found is found, with the input that shows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from promises import guarantee

from fuzz_contract import Broken, Target, allowed, check_line
from fuzz_hunt import MADE_MIN, Bounds, Source, hunt, replay
from m365watch.common.errors import NeedsOperator


def raises(given: bytes) -> None:
    if b"x" in given:
        raise KeyError("x")


def takes_long(given: bytes) -> None:
    if given == b"x":
        re.match(r"(a+)+$", "a" * 60 + "b")


def takes_much(given: bytes) -> None:
    if given == b"x":
        bytearray(512 << 20)  # more than this process has freed, and would be given again


def ends_the_process(given: bytes) -> None:
    if given == b"x":
        raise SystemExit


def says_two_lines(given: bytes) -> None:
    if given == b"x":
        check_line("a\nb")


TARGETS = {
    "KeyError": raises,
    "takes longer": takes_long,
    "takes more memory": takes_much,
    "ends the process": ends_the_process,
    "Broken": says_two_lines,
}


def target_of(attempt: object) -> Target:
    # On a busy machine it takes CPU time to be given memory: whoever takes much of that has more time.
    free_cpu_s = 5.0 if attempt is takes_much else 0.2
    return Target("made-up", lambda _: attempt, lambda: [b"good"], free_cpu_s=free_cpu_s, free_bytes=32 << 20)  # type: ignore[arg-type,return-value]


@guarantee(26)
@pytest.mark.parametrize("kind", TARGETS)
def test_what_must_not_be_is_a_finding(kind: str) -> None:
    """An error, time, memory, an end, an error of ours that is no line; a good input is none of these."""
    target = target_of(TARGETS[kind])
    finding = replay(target, b"x").finding

    assert finding is not None
    assert finding.what.startswith(kind)
    assert finding.given == b"x"
    assert replay(target, b"good").finding is None


@pytest.mark.slow
def test_a_finding_is_made_small_and_found_once() -> None:
    """Of many inputs that show the same, one is told, with little more than what it takes."""
    found = hunt(target_of(raises), seed=1, bounds=Bounds(inputs=400), corpus=None, on_round=lambda _: None)

    (finding,) = found.findings.values()
    assert finding.given == b"x"
    assert found.inputs >= 60


def test_a_target_whose_time_is_over_before_it_is_ready_is_hunted_all_the_same() -> None:
    """In a minute for 33, one was not ready in its two seconds: without an input it had "no findings"."""
    target = target_of(lambda _: None)
    found = hunt(target, seed=1, bounds=Bounds(seconds=0), corpus=None, on_round=lambda _: None)

    assert found.inputs == MADE_MIN


def test_what_little_time_there_is_goes_to_hostile_inputs() -> None:
    """Good ones come first where there is time for both."""
    source = Source(target_of(lambda _: None), [], "1/made-up/0", count=None, until_s=0, watches=False)
    tried = [given for given, _ in source.inputs()]

    assert len(tried) == MADE_MIN
    assert len([given for given in tried if given != b"good"]) > MADE_MIN // 2


def test_what_runs_new_lines_is_kept_for_the_next_hunt(tmp_path: Path) -> None:
    """And the same seed tries the same inputs."""
    from fuzz_records import TARGETS as RECORDS

    split = next(one for one in RECORDS if one.name == "split")
    bounds = Bounds(inputs=120)
    first = hunt(split, seed=3, bounds=bounds, corpus=tmp_path, on_round=lambda _: None)

    assert first.findings == {}
    assert first.kept > 0


def test_errors_of_ours_are_one_line_each() -> None:
    """Where, what, and what then; nothing that moves a terminal's cursor."""
    with allowed():
        raise NeedsOperator("it is broken", fix="mend it", where="contoso")
    for text in ("", "a\x1b[2J", "a\ud800", "a\nb"):
        with pytest.raises(Broken):
            check_line(text)
