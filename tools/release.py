"""Builds what a release consists of: source archive, wheel, SBOM (CycloneDX) and OpenAPI document."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from m365watch.board.api.api_routes import api_document
from tools.sbom import ROOT, render_sbom


def main(arguments: list[str]) -> int:
    """The exit code: 0, or that of the build."""
    parser = argparse.ArgumentParser("./dev release", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="DIRECTORY")
    directory: Path = parser.parse_args(arguments).output
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sbom.cdx.json").write_text(render_sbom(), encoding="utf-8")
    openapi = json.dumps(api_document(), indent=1, ensure_ascii=False)
    (directory / "openapi.json").write_text(openapi + "\n", encoding="utf-8")
    # Without --wheel or --sdist, the wheel is made from the unpacked source archive.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
