"""One address of a record, out of the three fields that may have it, without port and brackets."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from m365watch.detection.fields.enrichment_context import Whereabouts

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

ADDRESS_FIELDS = ("ClientIP", "ClientIPAddress", "ActorIpAddress")
"""The fields that may have it, in the order in which they are asked."""
_TEXT_MAX = 80
_HOLDER_BITS = 64
"""What one subscriber has of IPv6 at the least."""
_NOWHERE = Whereabouts()


def ip(view: View) -> tuple[Value, ...]:
    """The first field that holds a valid address: bare, in its shortest form, an IPv4 in IPv6 as IPv4."""
    for name in ADDRESS_FIELDS:
        for value in view.values(name):
            found = _shortest(value) if isinstance(value, str) else ""
            if found:
                return (found,)
    return ()


@lru_cache(maxsize=16_384)
def _shortest(text: str) -> str:
    """The address in its shortest form; empty where the text is none."""
    found = parse_address(text)
    return "" if found is None else str(found)


def origin(view: View) -> tuple[Value, ...]:
    """Who sits behind it: the address; of an IPv6 one its /64, all of which one computer may have."""
    found = _origin_of(view.first("m365.ip"))
    return (found,) if found else ()


@lru_cache(maxsize=16_384)
def _origin_of(text: str) -> str:
    """The address, or the network of an IPv6 one; empty where the text is none."""
    address = parse_address(text)
    if address is None or address.version == 4:
        return "" if address is None else str(address)
    return _first_bits_of(address, _HOLDER_BITS)


def network(view: View) -> tuple[Value, ...]:
    """The /24 of an IPv4 address, the /48 of an IPv6 one."""
    found = _network_of(view.first("m365.ip"))
    return (found,) if found else ()


@lru_cache(maxsize=16_384)
def _network_of(text: str) -> str:
    """The network of an address; empty where the text is none."""
    address = parse_address(text)
    if address is None:
        return ""
    return _first_bits_of(address, 24 if address.version == 4 else 48)


def _first_bits_of(address: IPv4Address | IPv6Address, bits: int) -> str:
    """The network that an address is in; `ip_network` says the same in five times the time."""
    rest = address.max_prefixlen - bits
    return f"{type(address)(int(address) >> rest << rest)}/{bits}"


def country(view: View) -> tuple[Value, ...]:
    """Two letters, from the tables that the user supplies."""
    found = _located(view).country
    return (found,) if found else ()


def asn(view: View) -> tuple[Value, ...]:
    """The number of the address's autonomous system, from the tables that the user supplies."""
    found = _located(view).asn
    return (found,) if found else ()


def provider(view: View) -> tuple[Value, ...]:
    """The autonomous system of the address; its network, where no table tells the system."""
    return asn(view) or network(view)


def city(view: View) -> tuple[Value, ...]:
    """The town, in English."""
    found = _located(view).city
    return (found,) if found else ()


def asn_name(view: View) -> tuple[Value, ...]:
    """Whose the autonomous system is."""
    found = _located(view).network_name
    return (found,) if found else ()


def tor(view: View) -> tuple[Value, ...]:
    """Whether the address is an exit of Tor, as tables or lists have it."""
    return (_located(view).tor,)


def vpn(view: View) -> tuple[Value, ...]:
    """Whether it is an exit of a VPN or a proxy that anybody may use."""
    return (_located(view).vpn,)


def hosting(view: View) -> tuple[Value, ...]:
    """Whether it belongs to a place of servers."""
    return (_located(view).hosting,)


def place(view: View) -> tuple[Value, ...]:
    """Latitude and longitude in degrees, joined by a comma."""
    found = _located(view)
    if found.latitude is None or found.longitude is None:
        return ()
    return (f"{found.latitude:.4f},{found.longitude:.4f}",)


def _located(view: View) -> Whereabouts:
    address = view.first("m365.ip")
    return view.knowledge.enrichment.locate(address) if address else _NOWHERE


@lru_cache(maxsize=16_384)
def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as the service writes it: 192.0.2.1, 192.0.2.1:443, [2001:db8::1]:443, ::ffff:192.0.2.1."""
    if not text or len(text) > _TEXT_MAX:
        return None
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    bare = bare.partition("%")[0]
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_network(text: str) -> IPv4Network | IPv6Network | None:
    """A network, or an address as one; IPv4 in IPv6 as IPv4. None where the text is neither."""
    if not (text[:1].isdigit() or ":" in text):
        return None
    if "/" not in text:
        address = parse_address(text)
        return None if address is None else ip_network(address)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False)
    return network
