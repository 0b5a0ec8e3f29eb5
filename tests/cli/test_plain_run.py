"""`run` understood without the library for command lines: as that would have it, or left to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from m365watch.cli.commands import PLACES, Commands
from m365watch.cli.plain_run import asked_plainly

PLAIN = [
    "--config a.json",
    "-c a.json",
    "--config a.json --once",
    "--config b/a.yaml --quiet --once",
    "-c a.json --once --once",
]
LEFT = [
    "",
    "--once",
    "--config",
    "--config=a.json",
    "-ca.json",
    "-qv -c a.json",
    "--once --config a.json",
    "--config a.json -q",
    "--config a.json --verbose",
    "--config --once",
    "--config a.json --config b.json",
    "--config a.json more",
    "--config a.json --json",
    "--config a.json --log-format json",
    "--config a.json --board",
    "--config a.json --validate",
    "--help",
]
START = "import sys; from m365watch.cli.main import main; main()"


@pytest.mark.parametrize("arguments", PLAIN)
def test_a_plain_run_is_asked_for_what_the_library_reads(arguments: str) -> None:
    """Option by option; what is not named is as the library has it by default."""
    asked = asked_plainly(["run", *arguments.split()])
    read = Commands(PLACES)["run"].make_context("run", arguments.split()).params

    assert asked is not None
    read.pop("prod_mode")
    assert read == {name: getattr(asked, name) for name in read}
    assert read.keys() == set(asked.__dataclass_fields__)


@pytest.mark.parametrize("arguments", LEFT)
def test_what_is_not_plain_is_left_to_the_library(arguments: str) -> None:
    """Mistakes too: it has the words for them."""
    assert asked_plainly(["run", *arguments.split()]) is None


@pytest.mark.parametrize("arguments", [[], ["--debug", "run", "-c", "a"], ["status", "-c", "a"], ["run."]])
def test_another_command_is_left_to_the_library(arguments: list[str]) -> None:
    """Also one whose traceback is to be shown."""
    assert asked_plainly(arguments) is None


def end_of(*arguments: str, stderr: int) -> tuple[int, str]:
    """How `m365watch` ends, and what it says on a pipe that somebody reads."""
    ended = subprocess.run([sys.executable, "-c", START, *arguments], stderr=stderr, text=True, check=False)
    return ended.returncode, ended.stderr or ""


def test_a_plain_run_fails_as_any_other(tmp_path: Path) -> None:
    """The same words and the same exit code, whoever has read the command line."""
    missing = str(tmp_path / "missing.json")

    plain = end_of("run", "--config", missing, stderr=subprocess.PIPE)
    other = end_of("run", "--config", missing, "--log-format", "text", stderr=subprocess.PIPE)

    assert plain == other
    assert plain[0] == 2
    assert missing in plain[1]


def test_a_plain_run_that_nobody_reads_ends_without_a_word(tmp_path: Path) -> None:
    """As any other command whose reader has gone."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        ends = [
            end_of("run", "--config", str(tmp_path / "missing.json"), *more, stderr=write_end)[0]
            for more in ([], ["--log-format", "text"])
        ]
    finally:
        os.close(write_end)

    assert ends == [1, 1]
