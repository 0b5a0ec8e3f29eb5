"""How often somebody may try to sign in: so many failures from one address, and for one name, at a time.

The counts stand in a fixed number of places, chosen by a keyed hash: however many addresses and names are
tried, they take no more memory, and push nobody else's count out. An address that a name signed in from
lately has a count of its own for that name, so that the guesses of others lock nobody out, be they from
the same address: behind a proxy or NAT everybody has that. Of the failures that lock a name for all other
addresses, one address makes half at most: then it has to wait itself.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
from array import array

from m365watch.board.access.known_addresses import KnownAddresses

PER_NAME_MAX = 10
PER_NAME_AND_ADDRESS_MAX = 5
"""For one name, from an address that is not known to be theirs."""
PER_ADDRESS_MAX = 30
PERIOD_S = 900.0
"""In which the failures wear off, evenly."""
KNOWN_S = 30 * 86_400.0
"""For how long an address is known that a name has signed in from."""
_PLACES = 1 << 16


class Attempts:
    """Failed attempts of late, and whether another one is due."""

    def __init__(self, known: KnownAddresses | None = None) -> None:
        """Nobody has tried; `known` are the addresses that names have signed in from."""
        self._secret = secrets.token_bytes(16)
        self._counts = array("f", bytes(4 * _PLACES))
        self._at_s = array("d", bytes(8 * _PLACES))
        self._known = known or KnownAddresses()

    def wait_s(self, name: str, address: str, *, now_s: float) -> int:
        """How many seconds whoever that is has to wait; 0: none."""
        *own, of_address = self._places(name, address, now_s)
        holding = own if self.knows(name, address, now_s=now_s) else [*own, of_address]
        return max(self._wait_s(place, most, now_s) for place, most in holding)

    def count(self, name: str, address: str, *, now_s: float) -> None:
        """Count an attempt, before it is known whether it succeeds."""
        for place, most in self._places(name, address, now_s):
            self._counts[place] = self._left(place, most, now_s) + 1
            self._at_s[place] = now_s

    def forgive(self, name: str, address: str, *, now_s: float) -> None:
        """Take an attempt back that succeeded, and know the address from then on."""
        for place, most in self._places(name, address, now_s):
            self._counts[place] = max(0.0, self._left(place, most, now_s) - 1)
            self._at_s[place] = now_s
        self._known.put(name.casefold(), block_of(address), now_s)

    def knows(self, name: str, address: str, *, now_s: float) -> bool:
        """Whether the name has signed in from the address lately."""
        known_at_s = self._known.when(name.casefold(), block_of(address))
        return known_at_s is not None and now_s - known_at_s < KNOWN_S

    def _places(self, name: str, address: str, now_s: float) -> list[tuple[int, int]]:
        is_known = self.knows(name, address, now_s=now_s)
        name, block = name.casefold(), block_of(address)
        of_address = (self._place("address", block), PER_ADDRESS_MAX)
        if is_known:
            return [(self._place("known", f"{block}/{name}"), PER_NAME_MAX), of_address]
        from_there = (self._place("pair", f"{block}/{name}"), PER_NAME_AND_ADDRESS_MAX)
        return [from_there, (self._place("name", name), PER_NAME_MAX), of_address]

    def _place(self, kind: str, value: str) -> int:
        digest = hashlib.blake2b(f"{kind}/{value}".encode(), key=self._secret, digest_size=4).digest()
        return int.from_bytes(digest) % _PLACES

    def _left(self, place: int, most: int, now_s: float) -> float:
        worn = max(0.0, now_s - self._at_s[place]) * most / PERIOD_S
        return max(0.0, self._counts[place] - worn)

    def _wait_s(self, place: int, most: int, now_s: float) -> int:
        over = self._left(place, most, now_s) + 1 - most
        return max(0, math.ceil(over * PERIOD_S / most))


def block_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or an IPv6 network that one customer gets."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
