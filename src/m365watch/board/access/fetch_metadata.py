"""Where a request comes from, as browsers say: what another site may cause here.

Source: W3C, "Fetch Metadata Request Headers". Browsers send `Sec-Fetch-*` to https and to loopback.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from m365watch.board.access.one_time_links import OPEN

SIGN_IN = "/sign-in"
PROBED = frozenset({"/healthz", "/readyz"})
"""What is answered under any name and to anybody: probes come by address, and it says nothing of anybody."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})


class Verdict(Enum):
    """What is made of a request."""

    ALLOW = "allow"
    NO_COOKIE = "no cookie"
    """It may be answered, but a cookie does not say who asks: a bearer token does."""
    REFUSE = "refuse"


def decide(headers: Mapping[str, str], method: str, path: str, *, is_shell: Callable[[str], bool]) -> Verdict:
    """What is made of a request; `is_shell` says of a path whether it is a page without any contents."""
    site = headers.get("sec-fetch-site")
    if site in _OWN_SITES or is_probe(method, path):
        return Verdict.ALLOW
    if site is None:
        return Verdict.NO_COOKIE
    is_navigation = (
        headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    )
    if is_navigation and method in {"GET", "HEAD"} and (path == "/" or is_of_sign_in(path) or is_shell(path)):
        return Verdict.ALLOW
    return Verdict.REFUSE


def is_probe(method: str, path: str) -> bool:
    """Whether a request asks for no more than whether the board lives."""
    return path in PROBED and method in SAFE_METHODS


def is_of_sign_in(path: str) -> bool:
    """Whether it is of signing in, or of opening the board by a link; the page of sign-ins is not."""
    return path in {SIGN_IN, OPEN} or path.startswith(f"{SIGN_IN}/")
