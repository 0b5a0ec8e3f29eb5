"""Where a preflight from a page may connect: nowhere inside that the configuration does not name already."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

from pydantic import TypeAdapter, ValidationError

from m365watch.common.urls import split_url
from m365watch.config.devo_compatibility import settle_spellings
from m365watch.config.document import NETWORK_OF_ALL, Document, section_at
from m365watch.config.models.base import Whole
from m365watch.config.sensitive_keys import destinations_of, key_of
from m365watch.config.validation_report import Report, show_path
from m365watch.http.settings import DIRECTLY

Address = tuple[str, int]
_PORT: TypeAdapter[int] = TypeAdapter(Whole)
"""Reads a port as the configuration's own model does, however it is spelled."""
_WITH_IPV4 = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""Networks whose addresses end with an IPv4 address."""
_INSIDE = tuple(map(ipaddress.IPv6Network, ("fec0::/10", "64:ff9b:1::/48")))
"""Networks of a site, which not every Python knows: the old ones, and those that a site translates."""
_PORTS = {"http": 80, "https": 443}
_ONLY_NAMED = frozenset({"audience", "assertion_audience"})
"""URLs that stand in tokens; nothing connects to them."""


def inner_addresses(kind: str, name: str, section: Document, document: Document) -> list[str]:
    """A line for each key of the section that leads to an address inside that the file does not name.

    `document` is the whole file. Names are looked up, so it may take a while.
    """
    known = set(_addresses_of_file(document))
    found = []
    for path, address in _addresses(kind, section):
        if address not in known and (inner := _inner_address(address)):
            shown = show_path((kind, name, *path))
            found.append(
                f"{shown}: leads to {inner}, an internal address that the file does not name yet; it is not"
                " tried from a page: change the file first"
            )
    return found


def _addresses_of_file(document: Document) -> Iterator[Address]:
    settle_spellings(document, Report())
    for kind in ("inputs", "outputs"):
        for section in section_at(document, kind).values():
            if isinstance(section, dict):
                yield from (address for _, address in _addresses(kind, section))
    proxy = section_at(document, *NETWORK_OF_ALL).get("proxy")
    if isinstance(proxy, str) and (found := _address_of_url(proxy)):
        yield found


def _addresses(kind: str, section: Document) -> Iterator[tuple[tuple[str, ...], Address]]:
    destinations = destinations_of(kind, section)
    default = destinations.get(("config", "port"))
    port = _port_of(section_at(section, "config").get("port", default))
    for path, value in destinations.items():
        key = key_of(path)
        if key[-1] == "address" and port:
            yield key, (value.strip().lower(), port)
        elif key[-1] not in _ONLY_NAMED and ("://" in value or key[-1] == "proxy"):
            found = _address_of_url(value)
            if found is not None:
                yield key, found


def _port_of(value: object) -> int:
    try:
        return _PORT.validate_python(value)
    except ValidationError:
        return 0


def _address_of_url(text: str) -> Address | None:
    if text.strip().lower() == DIRECTLY:
        return None
    parts = split_url(text if "://" in text else f"http://{text}")
    port = parts.port or _PORTS.get(parts.scheme)
    return (parts.hostname, port) if parts.hostname and port else None


def _inner_address(address: Address) -> str:
    """The first address behind the name that is not of the internet; empty where all are."""
    host, port = address
    if "%" in host:
        return host  # a zone is an interface of this machine, and whoever connects may leave it out
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError):
        return ""  # nothing will connect there either
    for *_, place in found:
        shown = str(place[0])
        ip = _innermost(ipaddress.ip_address(shown.partition("%")[0]))
        if not ip.is_global or ip.is_multicast or any(ip in network for network in _INSIDE):
            return shown
    return ""


def _innermost(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if any(ip in network for network in _WITH_IPV4):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.sixtofour or ip
