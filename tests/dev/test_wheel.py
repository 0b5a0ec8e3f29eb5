"""What `pip install .` puts on a machine is the whole package, and it works there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from promises import guarantee

from m365watch import __version__

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that a release consists of."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "tools.release", "--output", str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return folder


@pytest.mark.slow
def test_a_release_has_its_sbom_and_the_document_of_its_api(built: Path) -> None:
    sbom = json.loads((built / "sbom.cdx.json").read_text())
    openapi = json.loads((built / "openapi.json").read_text())

    assert sbom["metadata"]["component"]["version"] == openapi["info"]["version"] == __version__
    assert "/api/v1/alerts" in openapi["paths"]


@guarantee(27)
@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(built: Path) -> None:
    """Scenarios, the mark of typed packages and whatever else is not Python come along."""
    [wheel] = built.glob("*.whl")

    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("m365watch/")}
        assert "m365watch = m365watch.cli.main:main" in read_entry_points(archive)

    assert list_package_files() - packed == set()


@pytest.mark.slow
def test_the_source_distribution_can_be_tested_and_has_nothing_of_a_machine(built: Path) -> None:
    """Tests, locks and papers are in it; environments, caches and secrets are not."""
    [source] = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"dev", ".ci/run", "requirements.lock", "tests/conftest.py", "README.md", "LICENSE"} <= names
    assert [
        name for name in names if ".venv" in name or "__pycache__" in name or name.endswith("m365_secret")
    ] == []


@pytest.mark.slow
def test_the_source_distribution_passes_the_checks_of_its_papers(built: Path, tmp_path: Path) -> None:
    """Every file that a paper links, and that the checks read, was packed along."""
    [source] = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    [unpacked] = tmp_path.iterdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]

    # Without those that read every file for words, which takes long, and is done on the same files here.
    done = subprocess.run(
        [*command, "tests/architecture/test_papers.py", "-k", "not names_a_place"],
        check=False,
        cwd=unpacked,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@guarantee(27)
@pytest.mark.long
@pytest.mark.parametrize("extra", ["", "[all]"])
@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_it_installs_into_a_clean_environment_and_works(
    built: Path, tmp_path: Path, version: str, extra: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what the index offers today; collecting, detecting and asking included."""
    if shutil.which(f"python{version}") is None:
        pytest.skip(f"Python {version} is not here")
    [wheel] = built.glob("*.whl")
    environment = tmp_path / "environment"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--python", version, str(environment)], check=True, capture_output=True)
    install = [*uv, "pip", "install", "--python", str(environment / "bin/python"), f"{wheel}{extra}"]
    subprocess.run(install, check=True, capture_output=True)
    program = str(environment / "bin/m365watch")

    shown = subprocess.run([program, "version", "--json"], check=True, capture_output=True, text=True).stdout
    demo = [program, "demo", "--no-board", "--directory", str(tmp_path / "demo")]
    done = subprocess.run(demo, check=False, capture_output=True, text=True, timeout=240)

    assert json.loads(shown)["python"].startswith(f"CPython {version}")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "0 lost" in done.stdout
    size = sum(
        path.stat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink()
    )
    with capsys.disabled():
        sys.stdout.write(f"\nm365watch{extra} on Python {version}: {size / 1e6:,.0f} MB\n")


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
