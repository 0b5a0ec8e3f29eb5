"""The script ./dev: the parts that need no network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from patience import PATIENCE_S
from promises import guarantee

DEV = Path(__file__).resolve().parents[2] / "dev"

TOOLS = ("sh", "dirname", "cat", "sed", "head", "readlink", "cmp", "rm", "mkdir", "cp", "chmod", "env")
"""What the script calls; all of it is on every machine with a shell."""

VERBS = (
    "demo",
    "setup",
    "test",
    "check",
    "audit",
    "simulate",
    "fuzz",
    "weeks",
    "days",
    "bench",
    "structure",
    "entered",
    "soak",
    "docs",
    "release",
    "image",
    "lock",
)


def run_dev(*arguments: str, script: Path = DEV, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a run of the script printed, and its exit code."""
    return subprocess.run(
        [script, *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that holds the script and nothing else."""
    folder = tmp_path / "with a space" / "m"
    folder.mkdir(parents=True)
    shutil.copy(DEV, folder)
    return folder


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH with the tools of a shell, and no Python until a test puts one there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (folder / tool).symlink_to(found)
    return folder


def put_python(folder: Path, name: str, *, says: str) -> None:
    """A Python that answers the script's question with `says` and ends with 1."""
    (folder / name).write_text(f'#!/bin/sh\necho "{says}"\nexit 1\n')
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",)])
def test_the_bare_script_lists_its_verbs(arguments: tuple[str, ...]) -> None:
    """One line for each verb, and nothing is made."""
    answer = run_dev(*arguments)

    assert answer.returncode == 0
    listed = [line.split()[0] for line in answer.stdout.splitlines() if line.startswith("  ")]
    assert listed == list(VERBS)


def test_an_unknown_verb_is_a_mistake_of_usage() -> None:
    """Exit code 2, and the verbs that there are."""
    answer = run_dev("tset")

    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "there is no verb 'tset'" in answer.stderr
    assert "usage: ./dev VERB" in answer.stderr


def test_a_python_without_ensurepip_is_told_how_to_get_it(checkout: Path, bare_path: Path) -> None:
    """Debian keeps ensurepip in a package of its own: the script names it."""
    put_python(bare_path, "python3", says="is Python 3.12 without ensurepip")

    answer = run_dev("setup", script=checkout / "dev", PATH=str(bare_path))

    assert answer.returncode == 1
    assert "python3 is Python 3.12 without ensurepip" in answer.stderr
    assert "sudo apt-get install python3.12-venv" in answer.stderr
    assert not (checkout / ".venv").exists()


def test_an_old_python_is_named(checkout: Path, bare_path: Path) -> None:
    """Each interpreter that was found is named with what it lacks."""
    put_python(bare_path, "python3", says="is Python 3.9")
    put_python(bare_path, "python", says="is Python 2.7")

    answer = run_dev("test", script=checkout / "dev", PATH=str(bare_path))

    assert answer.returncode == 1
    assert "python3 is Python 3.9" in answer.stderr
    assert "python is Python 2.7" in answer.stderr
    assert "hint: install Python 3.11 or newer" in answer.stderr


def test_no_python_at_all_is_said(checkout: Path, bare_path: Path) -> None:
    """An empty machine gets a sentence, not the shell's complaint."""
    answer = run_dev("demo", script=checkout / "dev", PATH=str(bare_path))

    assert answer.returncode == 1
    assert "PATH offers: none" in answer.stderr


def test_the_python_that_is_asked_for_is_the_only_one_tried(checkout: Path, bare_path: Path) -> None:
    """PYTHON decides, also where another would do."""
    put_python(bare_path, "python3.9", says="is Python 3.9")

    answer = run_dev("setup", script=checkout / "dev", PYTHON=str(bare_path / "python3.9"))

    assert answer.returncode == 1
    assert f"{bare_path / 'python3.9'} is Python 3.9" in answer.stderr


def test_a_symlink_to_the_script_finds_the_checkout(checkout: Path, bare_path: Path, tmp_path: Path) -> None:
    """The folder of the script is where it lies, not where it was called from."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "unfinished").touch()
    (bare_path / "python3").write_text('#!/bin/sh\n[ "$1" = -c ] || echo "$3" >>"$0.venvs"\nexit 0\n')
    (bare_path / "python3").chmod(0o755)
    (tmp_path / "relative").symlink_to(Path("with a space") / "m" / "dev")
    (tmp_path / "twice").symlink_to("relative")

    run_dev("setup", script=tmp_path / "twice", PATH=str(bare_path))

    assert (bare_path / "python3.venvs").read_text().splitlines() == [str(checkout / ".venv")]


def test_two_runs_do_not_make_one_environment(checkout: Path) -> None:
    """A second run that finds the first one installing leaves it alone."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "unfinished").write_text(f"{os.getpid()}\n")

    answer = run_dev("setup", script=checkout / "dev")

    assert answer.returncode == 1
    assert f"process {os.getpid()} is making .venv" in answer.stderr


@guarantee(27)
@pytest.mark.parametrize(("failing", "code"), [("tools.audit", 1), ("nothing", 0)])
def test_a_check_fails_by_the_audit_of_the_packages_too(checkout: Path, failing: str, code: int) -> None:
    """What it ends with, not being strict, is heeded: a known vulnerability is one of the things."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$*" != "-m {failing}" ]\n')
    python.chmod(0o755)
    for lock in ("requirements.lock", "requirements-dev.lock"):
        (checkout / lock).touch()
        (checkout / ".venv" / lock).touch()

    answer = run_dev("check", script=checkout / "dev")

    assert answer.returncode == code
    assert answer.stderr.endswith("failed:\n  tools.audit\n" if code else "all checks passed\n")
