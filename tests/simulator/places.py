"""Whose address it is: what the tests of made records ask of the network's plan."""

from __future__ import annotations

import ipaddress

from m365watch_simulator.organization.network import PLACES, Place


def place_of(address: str) -> Place | None:
    """The place that owns an address, None if no place does."""
    found = ipaddress.ip_address(address)
    for place in PLACES:
        networks = (ipaddress.ip_network(place.network), ipaddress.ip_network(place.network_v6))
        if any(found in network for network in networks):
            return place
    return None
