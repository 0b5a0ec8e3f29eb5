from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import REQUIREMENTS, Row, judge
from benchmarks.measuring import Command, CommandFailed, Cost, family_bytes, run_measured


def row(name: str, *, wall_s: float, cpu_s: float, peak_mb: float) -> Row:
    return Row(name, 200_000, [Cost(wall_s, cpu_s, round(peak_mb * 1e6))])


def failed(*rows: Row) -> list[str]:
    return [judgement.figure for judgement in judge(rows, REQUIREMENTS) if not judgement.passed]


GOOD = (
    row("plain", wall_s=1.6, cpu_s=1.0, peak_mb=70),
    row("files", wall_s=2.5, cpu_s=1.9, peak_mb=200),
    row("lake", wall_s=3.5, cpu_s=3.0, peak_mb=400),
    row("tenzir", wall_s=4.5, cpu_s=6.8, peak_mb=250),
)


def test_figures_within_every_bound_pass() -> None:
    """A run that keeps the required figures fails in nothing."""
    assert failed(*GOOD) == []


def test_a_missed_bound_fails_by_name() -> None:
    """Whoever is too slow, too dear or too large is named, and nobody else."""
    slow = row("lake", wall_s=5.0, cpu_s=3.4, peak_mb=451)

    assert failed(*GOOD[:2], slow, GOOD[3]) == [
        "lake: CPU, µs a record",
        "lake: records/s",
        "lake: peak memory, MB",
        "lake to plain, records/s",
    ]


def test_who_was_not_run_is_not_measured() -> None:
    """Without Tenzir its figure is empty, neither an old one nor a pass by number."""
    by_figure = {judgement.figure: judgement for judgement in judge(GOOD[:3], REQUIREMENTS)}

    assert by_figure["files to Tenzir, records/s"].measured is None


def test_the_cost_of_a_command_counts_its_children() -> None:
    """Memory that only a child holds is seen, and so is its CPU time."""
    child = "held = bytearray(60_000_000); held[::4096] = bytes(len(held[::4096])); sum(range(3_000_000))"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"

    cost = run_measured(Command([sys.executable, "-c", parent]))

    assert cost.peak_bytes > 60_000_000
    assert cost.cpu_s > 0.03


def test_pages_of_a_file_that_two_processes_map_count_once(tmp_path: Path) -> None:
    """A child's libraries are its parent's, page by page: the machine holds them once."""
    mapped = tmp_path / "library"
    mapped.write_bytes(bytes(60_000_000))
    look = (
        "import mmap, subprocess, sys;"
        "file = open(sys.argv[1], 'rb');"
        "mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); sum(mapped[::4096]);"
    )
    child = f"{look} print('both', flush=True); sys.stdin.read()"
    parent = f"{look} subprocess.run([sys.executable, '-c', {child!r}, sys.argv[1]])"
    command = [sys.executable, "-c", parent, str(mapped)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        held = family_bytes(process.pid)
        process.communicate()

    assert ready == b"both\n"
    assert 60_000_000 < held < 120_000_000


def test_a_command_that_fails_gives_no_figure(tmp_path: Path) -> None:
    """Its own words say why."""
    with pytest.raises(CommandFailed, match=r"exit code 2: .*nothing-here"):
        run_measured(Command([sys.executable, str(tmp_path / "nothing-here.py")]))
