"""Several benchmarks in one go, each in a process of its own, and the one table that they fill.

What was found is kept in `figures.json` by benchmark, with the day, the load and the machine of each; the
table is `figures.md`. A benchmark that fails leaves what is known of it from before, and the others go on.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.outcome import Line, one_table
from benchmarks.registry import BENCHMARKS
from m365watch.common.clock import SystemClock

_FIGURES, _TABLE = "figures.json", "figures.md"
_WIDTH = 400
"""Wide enough that no cell of the table is broken."""


def run_together(names: Sequence[str], passed_on: Sequence[str], folder: Path, *, as_json: bool) -> int:
    """Measure them one after the other, keep each at once; 1 if one failed or missed a figure."""
    console = Console(stderr=True)
    minutes = sum(BENCHMARKS[name].minutes for name in names)
    counted = f"{len(names)} benchmark{'' if len(names) == 1 else 's'}"
    console.print(f"{counted}, about {minutes:.0f} minutes on 2 quiet cores")
    failed = []
    for number, name in enumerate(names, start=1):
        one = BENCHMARKS[name]
        console.rule(f"{number} of {len(names)}: {name}, about {one.minutes:g} min", align="left")
        found = _run(name, passed_on)
        if found is None or not found["passed"]:
            failed.append(name)
        if found is not None and "--quick" not in passed_on:
            _keep(folder, name, found)
    kept = _read(folder)
    if as_json:
        print(json.dumps({"passed": not failed, "figures": kept}, indent=1))
    console.print(one_table({name: _lines(kept[name]) for name in names if name in kept}))
    console.print("README quotes some of it: ./dev docs writes it there")
    if failed:
        console.print(f"missed a figure or failed: {', '.join(failed)}", style="red")
    return 1 if failed else 0


def _run(name: str, passed_on: Sequence[str]) -> dict[str, Any] | None:
    """What it found; None if it failed. What it says meanwhile goes to the terminal."""
    load = os.getloadavg()[0]
    command = [sys.executable, "-m", "benchmarks", name, "--json", *passed_on]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return None
    return {"load_before": round(load, 1), "passed": found["passed"], "lines": found["lines"]}


def _keep(folder: Path, name: str, found: Mapping[str, Any]) -> None:
    day = SystemClock().now().date().isoformat()
    machine = {"day": day, "cores": os.cpu_count(), "python": platform.python_version()}
    kept = _read(folder) | {name: machine | dict(found)}
    kept = {name: kept[name] for name in BENCHMARKS if name in kept}
    (folder / _FIGURES).write_text(json.dumps(kept, indent=1) + "\n")
    (folder / _TABLE).write_text(page_of(kept))


def _read(folder: Path) -> dict[str, Any]:
    file = folder / _FIGURES
    return json.loads(file.read_text()) if file.exists() else {}


def _lines(kept: Mapping[str, Any]) -> list[Line]:
    return [Line(**{**line, "missed": tuple(line["missed"])}) for line in kept["lines"]]


def page_of(kept: Mapping[str, Any]) -> str:
    """The page with the one table, from what `figures.json` holds."""
    text = StringIO()
    console = Console(file=text, width=_WIDTH)
    console.print(one_table({name: _lines(one) for name, one in kept.items()}))
    table = "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())
    when = "\n".join(
        f"* {name}: {one['day']}, {one['cores']} cores, Python {one['python']}, load {one['load_before']}"
        for name, one in kept.items()
    )
    return (
        "# Every figure in one table\n\n"
        "Made by `./dev bench`, which says what each of them is; [README.md](README.md) tells how they came"
        f" about.\n\n{table}\n\nMeasured, with the load of other work before the start:\n\n{when}\n"
    )
