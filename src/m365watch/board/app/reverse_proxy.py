"""Requests through a proxy: only from its own addresses, with the headers of it that are believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from m365watch.board.access.fetch_metadata import is_probe
from m365watch.records.derived_values import plain_address

_log = structlog.get_logger(__name__)

_UNTOLD = (
    "board: the proxy sets no x-forwarded-for: everybody has one address, and one stranger's wrong"
    " passwords hold up others' signing in; have the proxy set it"
)
UNKNOWN = "unknown"
"""Stands for an address that is none."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BehindProxy:
    """The application behind one or several proxies."""

    def __init__(self, app: ASGIApp, *, addresses: Iterable[str], headers: Iterable[str]) -> None:
        """`addresses` are the networks of the proxies, `headers` what of theirs counts, in lower case."""
        self._app = app
        self._networks = [ipaddress.ip_network(one) for one in addresses]
        self._believed = frozenset(headers)
        self._is_told = False
        """Whether it was said that the proxy tells no address."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on as the browser made it, or refuse it; a probe may come past the proxy."""
        if scope["type"] != "http" or is_probe(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(self._as_asked(scope), receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        if not self._is_proxy((scope.get("client") or ("", 0))[0]):
            return PlainTextResponse("the board is reached through its proxy only\n", status_code=403)
        asked_by = Headers(scope=scope).get("x-forwarded-proto", "https")
        if "x-forwarded-proto" in self._believed and asked_by.strip().lower() != "https":
            return PlainTextResponse("the board is reached by https only\n", status_code=403)
        return None

    def _as_asked(self, scope: Scope) -> Scope:
        asked = {**scope, "scheme": "https", "headers": list(scope["headers"])}
        headers = MutableHeaders(scope=asked)
        if "x-forwarded-for" in self._believed:
            lines = headers.getlist("x-forwarded-for")
            if not lines and not self._is_told:
                self._is_told = True
                _log.warning(_UNTOLD)
            asked["client"] = (self._browser_in(lines), 0)
        if "x-forwarded-host" in self._believed and (host := headers.get("x-forwarded-host")):
            headers["host"] = host
        return asked

    def _browser_in(self, lines: list[str]) -> str:
        """The last address that no proxy of ours has: what stands before it, anybody could have written."""
        addresses = [_address_in(one) for line in lines for one in line.split(",") if one.strip()]
        strangers = [one for one in addresses if not self._is_proxy(one)]
        return (strangers or addresses or [UNKNOWN])[-1]

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)


def _address_in(text: str) -> str:
    """The address that a proxy tells, without a port; of one with a zone, anybody could have written that."""
    try:
        address = ipaddress.ip_address(plain_address(text) or "")
    except ValueError:
        return UNKNOWN
    return UNKNOWN if "%" in text else str(address)
