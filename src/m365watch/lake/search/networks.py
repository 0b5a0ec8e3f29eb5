"""Networks as conditions of SQL on addresses that are texts, as `plain_address` writes them."""

from __future__ import annotations

import ipaddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_GROUPS = 8
_GROUP_BITS = 16


def in_network(column: str, network: Network) -> str:
    """Whether the address in `column`, in lower case, is in the network; other texts are not."""
    if isinstance(network, ipaddress.IPv4Network):
        return _in_v4(column, network)
    return _in_v6(column, network)


def _in_v4(column: str, network: ipaddress.IPv4Network) -> str:
    whole, rest = divmod(network.prefixlen, 8)
    octets = str(network.network_address).split(".")
    parts = []
    if whole == len(octets):
        return f"{column} = '{network.network_address}'"
    if whole:
        parts.append(f"starts_with({column}, '{'.'.join(octets[:whole])}.')")
    if rest:
        first = int(octets[whole])
        last = first + (1 << 8 - rest) - 1
        octet = f"try_cast(split_part({column}, '.', {whole + 1}) AS USMALLINT)"
        parts.append(f"{octet} BETWEEN {first} AND {last}")
    parts.append(rf"regexp_full_match({column}, '(\d{{1,3}}\.){{3}}\d{{1,3}}')")
    return f"({' AND '.join(parts)})"


def _in_v6(column: str, network: ipaddress.IPv6Network) -> str:
    whole, rest = divmod(network.prefixlen, _GROUP_BITS)
    wanted = [f"{int(one, 16):x}" for one in network.network_address.exploded.split(":")]
    groups = _groups_of(column)
    parts = [f"contains({column}, ':')"]
    parts += [f"{groups}[{place + 1}] = '{wanted[place]}'" for place in range(whole)]
    if rest:
        first = int(wanted[whole], 16)
        last = first + (1 << _GROUP_BITS - rest) - 1
        number = f"try_cast('0x' || {groups}[{whole + 1}] AS UINTEGER)"
        parts.append(f"{number} BETWEEN {first} AND {last}")
    return f"({' AND '.join(parts)})"


def _groups_of(column: str) -> str:
    """The eight groups of an address, those that `::` stands for as zeros."""
    left, right = (f"string_split(split_part({column}, '::', {place}), ':')" for place in (1, 2))
    left, right = (f"list_filter({one}, lambda part: part <> '')" for one in (left, right))
    zeros = f"list_resize([]::VARCHAR[], greatest({_GROUPS} - len({left}) - len({right}), 0)::BIGINT, '0')"
    return f"({left} || {zeros} || {right})"
