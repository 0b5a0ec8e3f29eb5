"""What `pip install .` puts on a machine is the whole package."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    """Scenarios, the mark of typed packages and whatever else is not Python come along."""
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")

    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("m365watch/")}
        assert "m365watch = m365watch.cli.main:main" in read_entry_points(archive)

    assert list_package_files() - packed == set()


def list_package_files() -> set[str]:
    """The files below src that belong to the package."""
    source = ROOT / "src"
    return {
        str(path.relative_to(source))
        for path in (source / "m365watch").rglob("*")
        if path.is_file() and not any(part.endswith(("__pycache__", "_cache")) for part in path.parts)
    }


def read_entry_points(archive: zipfile.ZipFile) -> str:
    """The commands that the wheel installs."""
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
    return archive.read(name).decode()
