"""The image's recipe, as whoever builds it by hand meets it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

IMAGE = Path(__file__).parents[2] / "deploy/Containerfile"


def test_every_stage_stands_on_a_base_with_a_digest() -> None:
    """There is no default, a tag ends the build before anything is fetched, and no stage has another base."""
    image = IMAGE.read_text(encoding="utf-8")
    [check] = re.findall(r"^RUN (case .* esac)$", image, re.MULTILINE)

    def status_of_check(base: str) -> int:
        return subprocess.run(["sh", "-c", check], env={"BASE": base}, check=False).returncode

    assert image.index("RUN ") == image.index(f"RUN {check}")
    assert set(re.findall(r"^FROM (\S+)", image, re.MULTILINE)) == {"${BASE}"}
    assert set(re.findall(r"^ARG (.*)$", image, re.MULTILINE)) == {"BASE"}
    assert status_of_check("debian:trixie-slim") != 0
    assert status_of_check(f"debian:trixie-slim@sha256:{'a' * 64}") == 0
