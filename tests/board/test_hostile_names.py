"""Hostile text as names of people and files, subjects and programs: at no address is it anything but text."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable
from promises import guarantee

from asking import ask, board_of, sources_of
from every_address import every_answer
from m365watch.board.query.data_sources import Sources
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_batch, make_part

VECTORS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "<svg><script>alert&#40;1)</script>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<body onload=alert(1)>",
    '" autofocus onfocus=alert(1) x="',
    "' onmouseover='alert(1)",
    "` onclick=`alert(1)",
    "<a href=javascript:alert(1)>x</a>",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)//https://x.example",
    "java\tscript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "<style>@import'//evil.example'</style>",
    "<link rel=stylesheet href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<form action=//evil.example><button>x",
    "<math><mtext></mtext><mglyph><style><img src=x onerror=alert(1)>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<div hx-get=//evil.example hx-trigger=load>",
    "<template><script>alert(1)</script></template>",
    "{{ 7*7 }}{% raw %}${7*7}#{7*7}",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u202e\u2066<img src=x onerror=alert(1)>",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "]]><script>alert(1)</script>",
    "=cmd|'/c calc'!A1",
    "+1+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\r\nSet-Cookie: a=b\r\n\r\n<script>alert(1)</script>",
)
KEPT = {"creationtime", "recordtype", "usertype", "workload", "operation", "resultstatus", "id", "name"}
"""What decides where a record is shown; everything else that is text becomes hostile."""
FORBIDDEN = {"iframe", "object", "embed", "img", "style", "base", "math", "template", "applet", "frame"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def hostile(value: Any, numbers: Iterator[int], name: str = "") -> Any:
    """The record with a vector in every text that may be one."""
    match value:
        case dict():
            return {key: hostile(child, numbers, key.lower()) for key, child in value.items()}
        case list():
            return [hostile(child, numbers, name) for child in value]
        case str() if name not in KEPT:
            return VECTORS[next(numbers) % len(VECTORS)]
    return value


@pytest.fixture(scope="module")
def infested(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    """A lake of the same records, each full of vectors."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copy(collected, folder / "m365watch.json")
    files = DeltaTable(collected.parent / "lake" / "audit").file_uris()
    rows = duckdb.execute("SELECT raw FROM read_parquet($files) ORDER BY id", {"files": files}).fetchall()
    numbers = count()
    records = [json.dumps(hostile(json.loads(raw), numbers)).encode() for (raw,) in rows]
    part = make_part(records, outputs=["lake"])
    AuditWriter(folder / "lake", app_id="hostile").append(make_batch(1, [part]))
    found = sources_of(folder / "m365watch.json")
    yield found
    assert found.facts is not None
    found.facts.close()


class Suspicious(HTMLParser):
    """What on a page could run, load or lead elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in FORBIDDEN or (tag == "script" and not (given.get("src") or "").startswith("/static/")):
            self.found.append(f"<{tag}>")
        for name, value in given.items():
            is_address = name in {"href", "src", "action", "formaction", "hx-get", "hx-post", "data-live-url"}
            is_ours = (value or "").startswith(("/", "#")) and not (value or "").startswith("//")
            if name.startswith("on") or name in {"style", "srcdoc"}:
                self.found.append(f"{tag} {name}")
            elif is_address and not is_ours:
                self.found.append(f"{tag} {name}={value}")


@guarantee(45)
@pytest.mark.slow
def test_no_vector_is_anything_but_text_at_any_address(infested: Sources) -> None:
    """On pages no element and no attribute comes of it, in exports no formula, in documents no page."""
    board = board_of(infested)
    seen = 0
    for url in every_answer(infested, has_alerts=False):
        answer = asyncio.run(ask(board, url))
        assert answer.status == 200, url
        assert answer.headers["x-content-type-options"] == "nosniff"
        seen += "alert" in answer.text
        if url.startswith("/api/"):
            assert answer.headers["content-type"] == "application/json"
            json.loads(answer.body)
        elif url.startswith("/export/") and answer.status == 200:
            assert answer.headers["content-type"].startswith("text/csv")
            rows = csv.reader(io.StringIO(answer.text))
            assert [cell for row in rows for cell in row if cell.startswith(FORMULA)] == [], url
        elif answer.status == 200:
            page = Suspicious()
            page.feed(answer.text)
            assert page.found == [], url

    assert seen > 50
