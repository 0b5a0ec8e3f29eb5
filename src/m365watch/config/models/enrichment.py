"""The keys of `detections.enrich`: files of your own that say more of addresses, people and indicators."""

# Annotations stay objects here (`base.Section` says why).

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.config.models.base import FilePath, Section, listed
from m365watch.config.models.values import parse_label

_PATHS = "a path, or a list of paths"
Files = Annotated[tuple[FilePath, ...], BeforeValidator(listed)]


def _parse_account(text: str) -> str:
    """The user name. Raises: ValueError: nobody has such a one, and the rules would wait for them in vain."""
    if text.strip().isdecimal():
        raise ValueError("is a number and no user name")
    if not text.strip():
        raise ValueError("is empty")
    return text


_Account = Annotated[str, BeforeValidator(parse_label), AfterValidator(_parse_account)]


class EnrichSection(Section):
    """What the rules may know of addresses and people beyond the records; all of it optional.

    Each file is read again when it changes; without one that is missing the rules find less, or nothing.
    Lists have an address, network, domain, hash or name a line; what follows a #, ; or comma is a comment.
    """

    databases: Files = Field(default=(), title=_PATHS)
    """Tables of addresses in MaxMind's format (.mmdb), such as GeoLite2 or DB-IP: countries and places for
    impossible travel, autonomous systems, anonymous networks. Where two tell the same, the first counts."""

    tor_lists: Files = Field(default=(), title=_PATHS)
    """Exits of Tor."""

    vpn_lists: Files = Field(default=(), title=_PATHS)
    """Exits of VPNs, and open proxies."""

    hosting_lists: Files = Field(default=(), title=_PATHS)
    """Networks of hosting providers, where nobody sits."""

    indicator_lists: Files = Field(default=(), title=_PATHS)
    """Addresses, networks, domains, mail addresses, application ids and SHA-256 hashes that are known to be
    bad."""

    vip_lists: Files = Field(default=(), title=_PATHS)
    """People whose accounts are worth more to an intruder, by user name."""

    admin_lists: Files = Field(default=(), title=_PATHS)
    """Accounts of administrators, by user name."""

    vips: Annotated[tuple[_Account, ...], BeforeValidator(listed)] = Field(
        default=(), title="a user name, or a list of them"
    )
    """The same as `vip_lists`, written here."""

    admins: Annotated[tuple[_Account, ...], BeforeValidator(listed)] = Field(
        default=(), title="a user name, or a list of them"
    )
    """The same as `admin_lists`, written here."""


FILE_KEYS = (
    "databases",
    "tor_lists",
    "vpn_lists",
    "hosting_lists",
    "indicator_lists",
    "vip_lists",
    "admin_lists",
)
