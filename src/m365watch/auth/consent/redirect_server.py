"""The page that the administrator's browser shows at the end: plain, without a script, without a secret."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:38rem;margin:12vh auto;padding:0 1rem;"
    "color:#1b1f24;background:#fff}h1{font-size:1.4rem}p{overflow-wrap:anywhere}"
    "@media(prefers-color-scheme:dark){body{color:#e6e8ea;background:#16191d}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Connection": "close",
}
"""Nothing is loaded, nothing is sent on, nothing is kept, and no other page shows it in a frame."""


class Page(NamedTuple):
    """One answer to the browser."""

    status: int
    title: str
    lines: Sequence[str] = ()

    def render(self) -> bytes:
        """The page as HTML; whatever is in title and lines is text in it."""
        paragraphs = "".join(f"<p>{escape(line)}</p>" for line in self.lines)
        title = escape(self.title)
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{paragraphs}</body></html>"
        ).encode()
