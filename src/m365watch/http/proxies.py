"""Which proxy leads to a host: the one of the configuration, or as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say.

Decided here, once per host: the client library would look it up again, in a thread, for every request.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import unquote

from yarl import URL

from m365watch.common.errors import SettingsRefused
from m365watch.http.settings import DIRECTLY, UNSET_NETWORK, NetworkSettings

_FIX = "give http://host:port"


class Proxy(NamedTuple):
    """A proxy and the headers that it wants."""

    url: URL
    headers: dict[str, str]


@lru_cache(maxsize=64)
def proxy_for(scheme: str, host: str, network: NetworkSettings = UNSET_NETWORK) -> Proxy | None:
    """The proxy that leads to `host`; None where it is reached directly, as this machine always is.

    Raises: SettingsRefused: the environment names something else than a proxy; its words are not repeated.
    """
    if is_nearby(host) or _is_excepted(host, network.no_proxy):
        return None
    if network.proxy is None:
        return _of_environment(scheme, host)
    return None if network.proxy == DIRECTLY else _configured(network, network.proxy)


def _is_excepted(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether one of `hosts` is `host`, a domain above it, or "*"."""
    name = host.lower().rstrip(".")
    domains = [one.strip(".") for one in hosts]
    return "*" in hosts or any(name == domain or name.endswith(f".{domain}") for domain in domains)


def _configured(network: NetworkSettings, proxy: str) -> Proxy:
    user = network.proxy_username
    password = network.proxy_password.get_secret_value() if network.proxy_password else ""
    return Proxy(URL(proxy), {} if user is None else _authorization(user, password))


def _of_environment(scheme: str, host: str) -> Proxy | None:
    # Loaded only where the environment is asked: it brings an HTTP client of its own.
    from urllib.request import getproxies, proxy_bypass

    named = getproxies().get(scheme)
    if not named or proxy_bypass(host):
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
    user = unquote(url.raw_user or "")
    return Proxy(address, _authorization(user, unquote(url.raw_password or "")) if user else {})


def check_proxies(addresses: Iterable[tuple[str, NetworkSettings]]) -> None:
    """Refuse an environment that names something else than a proxy on the way to one of `addresses`.

    Raises: SettingsRefused: each variable that is wrong is named once.
    """
    mistakes = []
    for address, network in addresses:
        url = URL(address)
        try:
            proxy_for(url.scheme, url.host or "", network)
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
    address = _parsed(host)
    return address is not None and address.is_loopback


def is_nearby(host: str) -> bool:
    """Whether no proxy can lead to `host`: this machine, or its cloud's metadata service beside it."""
    address = _parsed(host)
    return is_loopback(host) or (address is not None and address.is_link_local)


def _parsed(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _authorization(user: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {pair}"}
