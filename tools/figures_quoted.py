"""The README's table of figures, out of what `./dev bench` found last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_QUOTED = (
    ("collector", "files", "into files, ledger and dedup on"),
    ("collector", "lake", "into the lake"),
    ("collector", "lake, detections", "into the lake, every record judged by all packs"),
    ("detect", "engine, the packs", "the shipped packs, from bytes to alerts, on one core"),
    ("board", "page overview", "the Overview over 20,000,000 records, 95 of 100 times"),
)
"""Benchmark, its line, and the words for it."""


def render() -> str:
    """The README with the figures of today's table in their place."""
    return filled_in("README.md", "figures", _table())


def filled_in(page: str, what: str, table: str) -> str:
    """The page with the table between the marks for it."""
    text = (_ROOT / page).read_text(encoding="utf-8")
    begin, end = f"<!-- {what}: ./dev docs -->\n", f"<!-- end of {what} -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{table}{end}{after}"


def _table() -> str:
    kept = json.loads((_ROOT / "benchmarks" / "figures.json").read_text(encoding="utf-8"))
    rows = [_row(words, line) for name, case, words in _QUOTED for line in _lines(kept, name, case)]
    head = "| | speed | in the same run | CPU µs a record | peak MB |\n|---|---|---|---|---|\n"
    return head + "".join(rows)


def _lines(kept: dict[str, Any], name: str, case: str) -> list[dict[str, Any]]:
    """At most one; none where it was not measured yet."""
    return [line for line in kept.get(name, {"lines": []})["lines"] if line["case"] == case]


def _row(words: str, line: dict[str, Any]) -> str:
    cpu_us = "" if line["cpu_us"] is None else f"{line['cpu_us']:.1f}"
    peak_mb = "" if line["peak_mb"] is None else f"{line['peak_mb']:.0f}"
    return f"| {words} | {line['speed']} | {line['ratio']} | {cpu_us} | {peak_mb} |\n"
