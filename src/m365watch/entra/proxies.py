"""Which proxy leads to a host, as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say.

Decided here, once per host: the client library would look it up again, in a thread, for every request.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

from yarl import URL


class Proxy(NamedTuple):
    """A proxy and the headers that it wants."""

    url: URL
    headers: dict[str, str]


@lru_cache(maxsize=64)
def proxy_for(scheme: str, host: str) -> Proxy | None:
    """The proxy of the environment for `host`; None where it is reached directly, as loopback always is."""
    named = getproxies().get(scheme)
    if not named or is_loopback(host) or proxy_bypass(host):
        return None
    url = URL(named if "://" in named else f"http://{named}")
    return Proxy(url.with_user(None), _authorization(url))


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _authorization(url: URL) -> dict[str, str]:
    if not url.raw_user:
        return {}
    pair = f"{unquote(url.raw_user)}:{unquote(url.raw_password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
