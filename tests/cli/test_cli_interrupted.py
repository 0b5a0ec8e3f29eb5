"""Ctrl-C while the command line is still being imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S
from promises import guarantee

INTERRUPT = """
import importlib.abc, os, signal, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""
SCRIPT = [sys.executable, "-c", "import sys; from m365watch.cli.main import main; sys.exit(main())"]
"""As installers write it."""


@guarantee(29)
@pytest.mark.parametrize("start", [SCRIPT, [sys.executable, "-m", "m365watch"]], ids=["script", "module"])
@pytest.mark.parametrize(
    "name",
    [
        "typer",
        "m365watch.cli.program",
        "m365watch.common.errors",
        "m365watch.cli.status.status_report",
        "pydantic",
    ],
)
def test_an_interrupt_ends_it_with_130_and_without_a_traceback(
    tmp_path: Path, start: list[str], name: str
) -> None:
    """Whichever import it comes into, of the command line or of the command."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT, encoding="utf-8")
    ended = subprocess.run(
        [*start, "status", "--config", "nowhere.json"],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "INTERRUPT_AT": name},
        cwd=tmp_path,
        # A shell that starts tests in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
