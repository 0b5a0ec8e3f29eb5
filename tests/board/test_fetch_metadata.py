"""What is made of a request by where browsers say that it comes from."""

from __future__ import annotations

import pytest

from m365watch.board.access.fetch_metadata import Verdict, decide

ALLOW, NO_COOKIE, REFUSE = Verdict.ALLOW, Verdict.NO_COOKIE, Verdict.REFUSE
LINK = ("navigate", "document")
PLACES = {"shell": "/overview", "panel": "/panel/overview/figures", "api": "/api/v1/alerts"}
TABLE = [
    ("same-origin", ("cors", "empty"), "GET", PLACES["panel"], ALLOW),
    ("same-origin", ("cors", "empty"), "POST", PLACES["api"], ALLOW),
    ("none", LINK, "GET", PLACES["panel"], ALLOW),
    ("cross-site", LINK, "GET", PLACES["shell"], ALLOW),
    ("same-site", LINK, "GET", PLACES["shell"], ALLOW),
    ("cross-site", LINK, "HEAD", PLACES["shell"], ALLOW),
    ("cross-site", LINK, "GET", "/", ALLOW),
    ("cross-site", LINK, "GET", "/open", ALLOW),
    ("cross-site", LINK, "GET", "/sign-in/entra/back", ALLOW),
    ("cross-site", LINK, "POST", PLACES["shell"], REFUSE),
    ("cross-site", LINK, "POST", "/open", REFUSE),
    ("cross-site", LINK, "GET", PLACES["panel"], REFUSE),
    ("cross-site", LINK, "GET", PLACES["api"], REFUSE),
    ("cross-site", LINK, "GET", "/static/1/board.css", REFUSE),
    ("cross-site", ("navigate", "iframe"), "GET", PLACES["shell"], REFUSE),
    ("cross-site", ("navigate", "embed"), "GET", PLACES["shell"], REFUSE),
    ("cross-site", ("no-cors", "image"), "GET", PLACES["shell"], REFUSE),
    ("same-site", ("no-cors", "script"), "GET", PLACES["shell"], REFUSE),
    ("cross-site", ("cors", "empty"), "OPTIONS", PLACES["api"], REFUSE),
    ("another-word", LINK, "POST", PLACES["shell"], REFUSE),
    (None, LINK, "GET", PLACES["shell"], NO_COOKIE),
    (None, (None, None), "POST", PLACES["api"], NO_COOKIE),
    (None, (None, None), "GET", "/healthz", ALLOW),
    ("cross-site", ("no-cors", "image"), "GET", "/readyz", ALLOW),
    (None, (None, None), "POST", "/readyz", NO_COOKIE),
]


@pytest.mark.parametrize(("site", "how", "method", "path", "verdict"), TABLE)
def test_each_request_is_decided(
    site: str | None, how: tuple[str | None, str | None], method: str, path: str, verdict: Verdict
) -> None:
    """From another site a link to a page's shell alone; without a word of where it comes from, no cookie."""
    said = {"sec-fetch-site": site, "sec-fetch-mode": how[0], "sec-fetch-dest": how[1]}
    headers = {name: value for name, value in said.items() if value is not None}

    assert decide(headers, method, path, is_shell=lambda one: one == PLACES["shell"]) is verdict
