"""What a start takes, apart from any record: `run` until its first request, and `--help`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import OWN, Tree
from benchmarks.measuring import CommandFailed
from benchmarks.outcome import Line, Outcome, shown

STARTS = 10
"""Of each, for each counted run that was asked for: a start is short, and wavers."""
_PATIENCE_S = 60.0
_TENANT, _APPLICATION = "0a1b2c3d-0000-4000-8000-00000000000a", "99999999-8888-4777-8666-555555555555"


@dataclass(slots=True)
class Starts:
    """How long each start took, in seconds."""

    case: str
    tree: Tree
    walls_s: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.tree.named(self.case)


def measure_starts(*, starts: int, against: Tree | None, console: Console) -> Outcome:
    """Every start in turn, after a first turn that does not count.

    Raises: CommandFailed.
    """
    trees = [OWN, *([against] if against else [])]
    measures: dict[str, Callable[[Tree], float]] = {
        "run to its first request": run_to_first_request,
        "--help": help_to_its_end,
    }
    rows = [Starts(case, tree) for case in measures for tree in trees]
    for turn in range(1 + starts):
        for one in rows:
            wall_s = measures[one.case](one.tree)
            if turn:
                one.walls_s.append(wall_s)
    lines = []
    for one in rows:
        peer = next((other for other in rows if other.case == one.case and other is not one), None)
        ratio = shown(median(one.walls_s) / median(peer.walls_s)) if peer and one.tree is OWN else ""
        of = f"{ratio} of {peer.name}" if peer and ratio else ""
        lines.append(Line(one.name, speed=f"{median(one.walls_s) * 1e3:,.0f} ms", ratio=of))
    table = Table(box=MARKDOWN, title=f"Starts; load {os.getloadavg()[0]:.1f}", title_justify="left")
    for column in ("start", "median ms", "least", "most", "in the same run"):
        table.add_column(column, justify="left" if column == "start" else "right")
    for one, line in zip(rows, lines, strict=True):
        figures = (median(one.walls_s), min(one.walls_s), max(one.walls_s))
        table.add_row(one.name, *(f"{s * 1e3:,.0f}" for s in figures), line.ratio)
    console.print(table)
    report = {"starts": [{"case": one.name, "walls_s": one.walls_s} for one in rows]}
    return Outcome(tuple(lines), passed=True, report=report)


def run_to_first_request(tree: Tree) -> float:
    """From the start of `run` with a lake to the first connection that it makes."""
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as name:
        server.settimeout(_PATIENCE_S)
        path = Path(name, "config.json")
        path.touch(mode=0o600)
        path.write_text(json.dumps(_document(f"http://127.0.0.1:{server.getsockname()[1]}")))
        began = time.monotonic()
        process = _start(tree, "run", "--once", "--quiet", "--config", str(path))
        try:
            asked, _ = server.accept()
            asked.settimeout(_PATIENCE_S)
            asked.recv(1)
            wall_s = time.monotonic() - began
            asked.close()
        except TimeoutError:
            raise CommandFailed("run: no request") from None
        finally:
            process.kill()
            process.wait()
    return wall_s


def help_to_its_end(tree: Tree) -> float:
    """The whole of `m365watch --help`."""
    began = time.monotonic()
    if _start(tree, "--help").wait(_PATIENCE_S):
        raise CommandFailed("--help")
    return time.monotonic() - began


def _start(tree: Tree, *words: str) -> subprocess.Popen[bytes]:
    command = tree.command(*words)
    environment = os.environ | dict(command.environment)
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command.arguments, env=environment, stdin=nowhere, stdout=nowhere, stderr=nowhere)


def _document(url: str) -> dict[str, object]:
    credentials = {"tenant_id": _TENANT, "client_id": _APPLICATION, "client_secret": "made~up"}
    source = {"credentials": credentials, "cloud": {"login_url": url, "management_url": url}}
    lake = {"type": "lake", "config": {"directory": "out"}}
    return {"inputs": {"office365": source}, "outputs": {"lake": lake}, "detections": {"enabled": False}}
