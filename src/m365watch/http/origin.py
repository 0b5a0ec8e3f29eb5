"""Where requests go, and how a request to there is written.

What all requests to one origin have in common is made once; what a caller gives is looked at before it
is written, so that no address and no header can begin a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from yarl import URL

from m365watch import __version__
from m365watch.http.proxies import proxy_for
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings

AGENT = f"m365watch/{__version__}"
_ALWAYS = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": AGENT}
_NO_METHOD = re.compile(r"[^A-Z]")
_NO_TARGET = re.compile(r"[^\x21-\x7e]")
_NO_NAME = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]")
_NO_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Origin:
    """One scheme, host and port, and the proxy that leads there."""

    def __init__(self, url: URL, network: NetworkSettings = UNSET_NETWORK) -> None:
        """Whatever `url` has beside scheme, host and port does not matter."""
        self.is_tls = url.scheme == "https"
        self.host = (url.raw_host or "").rstrip(".")
        """As it is looked up: no brackets around an IPv6 address."""
        self.port = url.port or 0
        self.proxy = proxy_for(url.scheme, url.host or "", network)
        self.authority = url.host_port_subcomponent or ""
        """As it stands in `Host`."""
        lines = ""
        self._before_target = ""
        if self.proxy is not None and not self.is_tls:
            self._before_target = f"{url.scheme}://{self.authority}"
            lines = _written(self.proxy.headers)
        self._host_lines = f"Host: {self.authority}\r\n{lines}"
        self._headers: dict[str, str] = {}
        self._lines = self._written_with_ours({})

    def request(self, method: str, url: URL, *, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """The bytes of a request for `url`, whose origin this is.

        Raises: ValueError for a character that would be more than a part of method, address or header.
        """
        target = url.raw_path_qs
        if _NO_TARGET.search(target) or _NO_METHOD.search(method):
            raise ValueError("the address of a request has a character that does not belong there")
        if headers != self._headers:
            self._lines = self._written_with_ours(headers)
            self._headers = dict(headers)
        head = f"{method} {self._before_target}{target} HTTP/1.1\r\n{self._lines}"
        if body is None:
            return f"{head}\r\n".encode()
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _written_with_ours(self, headers: Mapping[str, str]) -> str:
        given = {name.lower() for name in headers}
        ours = {name: value for name, value in _ALWAYS.items() if name.lower() not in given}
        return f"{self._host_lines}{_written(ours)}{_written(headers)}"


def tunnel_request(origin: Origin) -> bytes:
    """The request to a proxy for a way to the origin; nothing in it is meant for the origin itself."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    authority = f"{host}:{origin.port}"
    proxy_headers = origin.proxy.headers if origin.proxy else {}
    lines = _written({"Host": authority, "User-Agent": AGENT, **proxy_headers})
    return f"CONNECT {authority} HTTP/1.1\r\n{lines}\r\n".encode()


def _written(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if not name or _NO_NAME.search(name) or _NO_VALUE.search(value):
            raise ValueError("a header of a request has a character that does not belong there")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
