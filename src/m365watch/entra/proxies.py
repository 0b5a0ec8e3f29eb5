"""Which proxy leads to a host, as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say.

Decided here, once per host: the client library would look it up again, in a thread, for every request.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from m365watch.errors import SettingsRefused

_FIX = "give http://host:port"


class Proxy(NamedTuple):
    """A proxy and the headers that it wants."""

    url: URL
    headers: dict[str, str]


@lru_cache(maxsize=64)
def proxy_for(scheme: str, host: str) -> Proxy | None:
    """The proxy of the environment for `host`; None where it is reached directly.

    Loopback always is, and so are link-local addresses, where Azure's IMDS answers: a proxy has its own.

    Raises: SettingsRefused: the environment names something else than a proxy; its words are not repeated.
    """
    named = getproxies().get(scheme)
    if not named or is_loopback(host) or is_link_local(host) or proxy_bypass(host):
        return None
    variable = f"{scheme.upper()}_PROXY"
    kind, separator, _ = named.partition("://")
    if separator and kind.lower().startswith("socks"):
        raise _refused(f"{variable}: socks proxies are not supported")
    try:
        url = URL(named if separator else f"http://{named}")
        address = url.with_user(None)
    except ValueError:
        address = None
    if address is None or address.scheme not in {"http", "https"} or not _is_place(address):
        # What is no address may hold a password anywhere.
        raise _refused(f"{variable}: what it holds is not a proxy address")
    return Proxy(address, _authorization(url))


def check_proxies(addresses: Iterable[str]) -> None:
    """Refuse an environment that names something else than a proxy on the way to one of `addresses`.

    Raises: SettingsRefused: each variable that is wrong is named once.
    """
    mistakes = []
    for url in map(URL, addresses):
        try:
            proxy_for(url.scheme, url.host or "")
        except SettingsRefused as error:
            mistakes += error.mistakes
    if mistakes:
        raise SettingsRefused(list(dict.fromkeys(mistakes)), where="", fix=_FIX)


def _refused(mistake: str) -> SettingsRefused:
    return SettingsRefused([mistake], where="", fix=_FIX)


def _is_place(address: URL) -> bool:
    """Whether a connection can be made to it; an @ is left of a password that was not quoted."""
    host = address.raw_host
    return bool(host and address.port) and " " not in (host or "") and "@" not in str(address)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_link_local(host: str) -> bool:
    """Whether `host` is an address on this machine's own link."""
    try:
        return ip_address(host).is_link_local
    except ValueError:
        return False


def _authorization(url: URL) -> dict[str, str]:
    if not url.raw_user:
        return {}
    pair = f"{unquote(url.raw_user)}:{unquote(url.raw_password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
