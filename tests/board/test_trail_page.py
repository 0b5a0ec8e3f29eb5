"""Where the lines of the Trail page lead."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from m365watch.board.pages.trail import url_of
from m365watch.lake.trail import Deed

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def deed(path: str, query: str = "", *, action: str = "view", status: int = 200) -> Deed:
    return Deed(1, NOW, "ann", "analyst", "192.0.2.1", "s", action, status, path, query, "")


@pytest.mark.parametrize(
    ("line", "url"),
    [
        (deed("/overview", "range=7d"), "/overview?range=7d"),
        (deed("/overview"), "/overview"),
        (deed("/search/part", "q=user%3Aann+x&before=1764115200&shown=20"), "/search?q=user%3Aann+x"),
        (deed("/search/part", "before=1764115200"), "/search"),
        (deed("/panel/sign-ins/map", "range=7d"), "/sign-ins?range=7d#panel-map"),
        (deed("/panel/x"), ""),
        (deed("//evil.example/x"), ""),
        (deed("/overview", status=403), ""),
        (deed("/export/search/hits.csv", action="export"), ""),
        (deed("/api/v1/overview/figures", action="api"), ""),
    ],
)
def test_a_look_leads_to_the_whole_page(line: Deed, url: str) -> None:
    """Never to a part of one, which is no page by itself; what was no look at a page leads nowhere."""
    assert url_of(line) == url
