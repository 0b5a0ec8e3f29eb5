"""What a command says where its output cannot be written: one line, and the exit code of any failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, CompletedProcess

import pytest
from patience import PATIENCE_S

COMMANDS = [
    ["--help"],
    ["rules", "--help"],
    ["rules", "list"],
    ["version", "--json"],
    ["simulate", "--list-scenarios"],
]
FULL = Path("/dev/full")


def start(words: list[str], *, stdout: int, stderr: int = PIPE) -> CompletedProcess[str]:
    # As most have it: unbuffered, nothing is left that Python would write at its end.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-m", "m365watch", *words],
        env=environment,
        stdout=stdout,
        stderr=stderr,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_output_on_a_full_disk_is_told_once(words: list[str]) -> None:
    """Python wrote it once more at its end, said so again, and left with a code of its own, 120."""
    full = os.open(FULL, os.O_WRONLY)
    try:
        done = start(words, stdout=full)
    finally:
        os.close(full)

    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [
            "error: the output cannot be written: no space left on device",
            "hint: make room on the disk, and run it again",
        ],
    )


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_output_that_nobody_reads_any_more_ends_without_a_word(words: list[str]) -> None:
    """Whoever reads has seen enough, or has said what was wrong already."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = start(words, stdout=writing)
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.slow
def test_a_full_disk_under_what_is_told_changes_no_exit_code() -> None:
    """Nothing can be said there; that a command has failed is still known by its code."""
    full = os.open(FULL, os.O_WRONLY)
    try:
        done = start(["rules", "list", "nothing-like-it"], stdout=PIPE, stderr=full)
        failed = start(["status", "--config", "nowhere.json"], stdout=PIPE, stderr=full)
    finally:
        os.close(full)

    assert (done.returncode, failed.returncode) == (0, 1)


def test_closed_outputs_change_no_exit_code() -> None:
    """A file that is opened would come in the place of one that is closed, and get what is told."""
    closed = ["sh", "-c", 'exec "$0" -m m365watch status --config nowhere.json >&- 2>&-', sys.executable]

    assert subprocess.run(closed, timeout=PATIENCE_S, check=False).returncode == 2
