"""Broken configurations, given to the command line: nothing here imports what reads a configuration."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import yaml
from forked import PIPE, fork
from patience import PATIENCE_S

TABLE: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "broken" / "cases.yaml").read_text())
_BESIDE = (
    ("me.key", "PRIVATE KEY", 0o600),
    ("me.pem", "CERTIFICATE", 0o644),
    ("chain.pem", "CERTIFICATE", 0o644),
    ("readable", "PRIVATE KEY", 0o644),
)
"""The files that a case may name."""
_KEY = r'(?:[\w-]+|"(?:[^"\\]|\\.)*")'
_FIRST = re.compile(
    r"^error: (\S+ \[CODE:\d+\]) reason: (?:\S*/)?(?:\S+\.(?:json|yaml)(?: and \S+\.json)?): (.*)$"
)
_PATH = re.compile(rf"^(?:\S+\.json: )?({_KEY}(?:\.{_KEY}|\[\d+\])*): ")


def refused_with(case: dict[str, Any], folder: Path) -> tuple[int, str, list[str]]:
    """The exit code of `run --validate`, the code of the error, and the keys that it names."""
    words = _write(case, folder)
    exit_code, errors = asyncio.run(_validate(words, folder))
    lines = errors.splitlines()
    first = next((found for line in lines if (found := _FIRST.match(line))), None)
    if first is None:
        return exit_code, errors, []
    mistakes = [line[2:] for line in lines if line.startswith("  ")] or [first[2]]
    paths = [found[1] if (found := _PATH.match(mistake)) else "" for mistake in mistakes]
    return exit_code, first[1], sorted(set(paths))


def _write(case: dict[str, Any], folder: Path) -> list[str]:
    """The files of a case; the words that name them."""
    for name, kind, mode in _BESIDE:
        _put(folder / name, f"-----BEGIN {kind}-----\n", mode)
    if "job" in case:
        _put(folder / "job.json", json.dumps(case["job"]))
        _put(folder / "collector.json", json.dumps(case["collector"]))
        return ["--job-config-loc", "job.json", "--collector-config-loc", "collector.json"]
    name = f"config.{case.get('suffix', 'yaml')}"
    text = case["text"] if "text" in case else json.dumps(_changed(case))
    if text is not None:
        _put(folder / name, text)
    return ["--config", name]


def _changed(case: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = copy.deepcopy(TABLE["base"])
    for path in case.get("drop", ()):
        section, key = _section(document, path)
        del section[key]
    for path, value in case.get("set", {}).items():
        section, key = _section(document, path)
        section[key] = value
    return document


def _section(document: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *above, key = path.split(".")
    for part in above:
        document = document.setdefault(part, {})
    return document, key


def _put(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


async def _validate(words: list[str], folder: Path) -> tuple[int, str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    begun = await fork(
        "m365watch.cli.main", "run", "--validate", *words, folder=folder, stderr=PIPE, environment=environment
    )
    async with asyncio.timeout(PATIENCE_S):
        _, errors = await begun.communicate()
    return await begun.wait(), errors.decode()
