"""Two checkouts in one run, starts, and blobs of another length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks.start
from benchmarks.contenders import Tree
from benchmarks.measuring import CommandFailed, run_measured
from benchmarks.service import service_running
from benchmarks.start import help_to_its_end, run_to_first_request
from test_benchmarks import ROOT, run_quickly

ASKS = """
import json, socket, sys, time, urllib.parse
def main():
    if sys.argv[1:] == ["--help"]:
        sys.exit(HELP)
    time.sleep(0.3)
    url = json.load(open(sys.argv[-1]))["inputs"]["office365"]["cloud"]["login_url"]
    if ASKS:
        socket.create_connection(("127.0.0.1", urllib.parse.urlsplit(url).port)).send(b"GET")
    time.sleep(60)
"""


def checkout(folder: Path, main: str) -> Tree:
    """A product that does nothing but this."""
    package = folder / "src" / "m365watch" / "cli"
    package.mkdir(parents=True)
    for place in (package.parent, package):
        (place / "__init__.py").touch()
    (package / "main.py").write_text(main)
    return Tree(folder)


def test_the_other_checkouts_product_is_run(tmp_path: Path) -> None:
    """And not ours, which is installed beside it."""
    tree = checkout(tmp_path, "import sys\ndef main(): open(sys.argv[1], 'w').write('theirs')\n")

    run_measured(tree.command(str(tmp_path / "written")))

    assert (tmp_path / "written").read_text() == "theirs"
    assert tree.named("lake") == f"lake of {tmp_path.name}"


def test_both_take_turns_and_ours_is_told_by_the_other() -> None:
    """Ratios are of one run: here of a checkout with itself."""
    code, report = run_quickly("collector", "--only", "files", "--against", str(ROOT))

    assert code == 0
    assert [row["name"] for row in report["rows"]] == ["files", f"files of {ROOT.name}"]
    assert report["lines"][0]["ratio"].endswith(f" of files of {ROOT.name}")


def test_a_start_ends_with_the_first_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process does after it does not count; one that never asks is an error."""
    asks = checkout(tmp_path / "a", ASKS.replace("ASKS", "True").replace("HELP", "0"))
    silent = checkout(tmp_path / "b", ASKS.replace("ASKS", "False").replace("HELP", "1"))

    assert 0.3 < run_to_first_request(asks) < 30
    assert help_to_its_end(asks) < 30
    with pytest.raises(CommandFailed):
        help_to_its_end(silent)
    monkeypatch.setattr(benchmarks.start, "_PATIENCE_S", 1.0)
    with pytest.raises(CommandFailed):
        run_to_first_request(silent)


def test_blobs_are_as_short_as_was_asked() -> None:
    """Of 5 records at most."""
    with service_running(10_000, blob_records=5) as service:
        assert service.blobs >= service.records / 5
    with service_running(10_000) as service:
        assert service.blobs < service.records / 5


@pytest.mark.parametrize("options", [["parts", "--against", "."], ["start", "--against", "tests"]])
def test_what_has_no_other_to_be_compared_with_is_refused(options: list[str]) -> None:
    """Before anything is measured."""
    command = [sys.executable, "-m", "benchmarks", *options]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 2
