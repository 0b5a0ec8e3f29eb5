"""A blob that is larger than the collector accepts costs it one fetch, and keeps no other waiting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from served_board import run
from simulated_tenant import forwarding, simulated

pytestmark = pytest.mark.slow

MEGABYTES_MAX = 16
"""The lowest bound that can be set."""


def test_a_blob_that_is_too_large_is_fetched_once_a_round(tmp_path: Path) -> None:
    """It will not be smaller a second later; what is said names the setting, and the others are collected."""
    large: dict[str, str] = {}
    fetched: list[str] = []

    def enlarge(path: str, headers: dict[str, str], body: bytes) -> bytes:
        if "/audit/" not in path or large.setdefault("path", path) != path:
            return body
        fetched.append(path)
        headers.pop("content-encoding", None)
        return bytes((MEGABYTES_MAX << 20) + 1)

    with simulated(tmp_path, "--days", "1", "--records-per-day", "30") as document:
        (tenant,) = document["inputs"].values()
        service = tenant["cloud"]["management_url"]
        with forwarding(service, enlarge) as address:
            tenant["cloud"] |= {"audience": service, "management_url": address}
            document["globals"]["answer_megabytes_max"] = MEGABYTES_MAX
            document["outputs"] = {"copy": {"type": "files", "config": {"directory": str(tmp_path / "copy")}}}
            (tmp_path / "config.json").write_text(json.dumps(document), encoding="utf-8")
            done = run("run", "--once", "--config", str(tmp_path / "config.json"))

    assert done.returncode == 3, done.stderr  # some blob waits
    assert "globals.answer_megabytes_max" in done.stderr
    assert len(fetched) == 1
    assert list((tmp_path / "copy").glob("*/*.ndjson"))
