"""Where the records come from: places, their addresses, and the devices people use.

All addresses are of the ranges reserved for documentation (RFC 5737 and RFC 3849), each of
which is given to one place here, so that the country of an address is known without a table
of the real world.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random


@dataclass(frozen=True, slots=True)
class Place:
    """A town with its own addresses."""

    town: str
    country: str
    """ISO 3166 code of two letters."""
    utc_offset_h: float
    network: str
    """An IPv4 network of 32 addresses."""
    network_v6: str

    def address(self, number: int) -> str:
        """The IPv4 address with this number; numbers start over after 30."""
        return str(ipaddress.ip_network(self.network)[1 + number % 30])

    def address_v6(self, number: int) -> str:
        """The IPv6 address with this number."""
        return str(ipaddress.ip_network(self.network_v6)[1 + number])


def _place(town: str, country: str, offset: float, network: str) -> Place:
    third, last = ipaddress.ip_network(network).network_address.packed[2:]
    return Place(
        town=town,
        country=country,
        utc_offset_h=offset,
        network=network,
        network_v6=f"2001:db8:{third:x}{last:02x}::/48",
    )


OFFICES = (
    _place("Bremen", "DE", 1, "192.0.2.0/27"),
    _place("Leeds", "GB", 0, "192.0.2.32/27"),
    _place("Philadelphia", "US", -5, "192.0.2.64/27"),
    _place("Pune", "IN", 5.5, "192.0.2.96/27"),
)
"""Where the organisation works; most people belong to the first."""

HOMES = (
    _place("Bremen", "DE", 1, "198.51.100.0/27"),
    _place("Leeds", "GB", 0, "198.51.100.32/27"),
    _place("Philadelphia", "US", -5, "198.51.100.64/27"),
    _place("Pune", "IN", 5.5, "198.51.100.96/27"),
)
"""The providers of the people who live there, in the order of `OFFICES`."""

JOURNEYS = (
    _place("Lyon", "FR", 1, "198.51.100.128/27"),
    _place("Valencia", "ES", 1, "198.51.100.160/27"),
    _place("Osaka", "JP", 9, "198.51.100.192/27"),
    _place("Toronto", "CA", -5, "198.51.100.224/27"),
)
"""Where people travel to."""

SERVICE = _place("Dublin", "IE", 0, "203.0.113.0/27")
"""Where the service's own machines and other people's mail servers stand."""

STRANGERS = (
    _place("Porto Velho", "BR", -4, "203.0.113.128/27"),
    _place("Da Nang", "VN", 7, "203.0.113.160/27"),
    _place("Constanta", "RO", 2, "203.0.113.192/27"),
    _place("Almere", "NL", 1, "203.0.113.224/27"),
)
"""Where nobody of the organisation ever was; attackers come from here."""

PLACES = (*OFFICES, *HOMES, *JOURNEYS, SERVICE, *STRANGERS)


@dataclass(frozen=True, slots=True)
class Device:
    """What somebody works with."""

    name: str
    device_id: str
    """Entra's id of it; empty if it is not registered."""
    system: str
    """As Entra spells operating systems, for example "Windows10"."""
    browser: str
    browser_version: str
    user_agent: str
    outlook: bool
    """Whether mail is read with Outlook for the desktop rather than in a browser."""


_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X)"
_ANDROID = "Mozilla/5.0 (Linux; Android 15; K)"
_VERSIONS = ("139", "140", "141")
_DESKS = (
    ("Windows10", "Edge", _WINDOWS, " Edg/{version}.0.0.0"),
    ("Windows10", "Edge", _WINDOWS, " Edg/{version}.0.0.0"),
    ("Windows10", "Edge", _WINDOWS, " Edg/{version}.0.0.0"),
    ("Windows10", "Chrome", _WINDOWS, ""),
    ("MacOs", "Chrome", _MAC, ""),
)
"""System, browser, and the head and tail of its user agent."""


def desk_device(dice: random.Random, *, name: str, device_id: str) -> Device:
    """A computer of the organisation: mostly Windows with Edge, some with Chrome, some a Mac."""
    system, browser, head, tail = dice.choice(_DESKS)
    version = dice.choice(_VERSIONS)
    return Device(
        name=name,
        device_id=device_id,
        system=system,
        browser=browser,
        browser_version=f"{version}.0.0",
        user_agent=f"{head} {_CHROME}{tail}".format(version=version),
        outlook=system == "Windows10",
    )


def phone_device(dice: random.Random, *, name: str) -> Device:
    """A private telephone, which Entra does not know."""
    version = dice.choice(_VERSIONS)
    system, browser, browser_version, user_agent = dice.choice(
        (
            ("Ios", "Mobile Safari", "18.5", f"{_IPHONE} AppleWebKit/605.1.15 Mobile/15E148"),
            ("Android", "Chrome Mobile", f"{version}.0.0", f"{_ANDROID} {_CHROME}"),
        )
    )
    return Device(
        name=name,
        device_id="",
        system=system,
        browser=browser,
        browser_version=browser_version,
        user_agent=user_agent.format(version=version),
        outlook=False,
    )


def foreign_device(*, system: str, browser: str, browser_version: str, user_agent: str) -> Device:
    """A device that Entra does not know and that has no name."""
    return Device("", "", system, browser, browser_version, user_agent, outlook=False)


ATTACK_TOOL = foreign_device(
    system="Linux", browser="Other", browser_version="", user_agent="python-requests/2.32.3"
)
"""A script that forgets to look like a browser."""

STRANGE_BROWSER = foreign_device(
    system="Linux",
    browser="Firefox",
    browser_version="128.0",
    user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
)
"""A browser that nobody of the organisation uses."""


def with_port(dice: random.Random, address: str) -> str:
    """The address as Exchange's admin records spell it: with a port, IPv6 in brackets."""
    port = 1024 + dice.getrandbits(14)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _plain(_: random.Random, address: str) -> str:
    return address


def _bracketed(_: random.Random, address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _bracketed_with_port(dice: random.Random, address: str) -> str:
    return f"[{address}]:{1024 + dice.getrandbits(14)}"


def _mapped(_: random.Random, address: str) -> str:
    return address if ":" in address else f"::ffff:{address}"


_SPELLINGS = (*(_plain,) * 12, with_port, _bracketed, _bracketed_with_port, _mapped)


def spelled(dice: random.Random, address: str) -> str:
    """The address in one of the spellings seen in records, plain three times out of four.

    Source: published records; IPv4, IPv6, [IPv6], [IPv4]:port, IPv4:port, ::ffff:IPv4.
    """
    return _SPELLINGS[dice.getrandbits(4)](dice, address)
