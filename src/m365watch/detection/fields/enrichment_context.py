"""What rules may know beyond the record: the tenant's own domains, lists of people, where an address is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What is known of an address; what is not known is empty."""

    country: str = ""
    """Two letters, upper case."""
    asn: str = ""
    """The number of the autonomous system, digits only."""
    latitude: float | None = None
    longitude: float | None = None
    city: str = ""
    network_name: str = ""
    """Whose the autonomous system is."""
    tor: bool = False
    vpn: bool = False
    """An exit of a VPN, or an open proxy."""
    hosting: bool = False
    """A place of servers, where nobody sits."""


class Enrichment(Protocol):
    """Looks up an address; asked for the same address again and again, so it answers from memory."""

    def locate(self, address: str) -> Whereabouts:
        """What is known of the address, which is valid and bare; never raises."""
        ...


class ReadFile(Protocol):
    """A file, and whether it is known what is in it."""

    path: Path
    trouble: str
    """Why it cannot be read as it is; empty where it was."""
    version: int
    """How often it was read: what it held then counts on, whatever becomes of it."""


class Changing(Protocol):
    """Something that files say, which may change."""

    @property
    def files(self) -> Sequence[ReadFile]:
        """All of them."""
        ...

    def look(self) -> int:
        """A number that grows when a file was read again, after a look at each."""
        ...


class NoEnrichment:
    """Knows of no address anything: rules that ask for a country or network find none."""

    def locate(self, address: str) -> Whereabouts:  # noqa: ARG002 - the port's signature
        """Nothing."""
        return _NOWHERE


_NOWHERE = Whereabouts()


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the settings say; all of it optional, names and addresses in lower case."""

    accepted_domains: frozenset[str] = frozenset()
    """Mail domains that are the organisation's own, in all tenants."""
    tenant_domains: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Further domains by tenant id."""
    vips: Collection[str] = frozenset()
    """Empty, and so false: nobody is. A list of a file, which may grow, is true from the start."""
    admins: Collection[str] = frozenset()
    indicators: Collection[str] = frozenset()
    """Addresses, domains, application ids and hashes that are known to be bad."""
    enrichment: Enrichment = field(default_factory=NoEnrichment)
    tells: frozenset[str] | None = None
    """What `enrichment` may tell: places, networks, tor, vpn, hosting; None: all of it, if it is any."""
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Named lists that replace those of the packs."""
    override_tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By a rule's service, the `override_tag` of each tenant, "" for none, where a tenant has one."""

    @property
    def is_plain(self) -> bool:
        """Whether it is made of values alone, and of no files."""
        lists = (self.vips, self.admins, self.indicators)
        return isinstance(self.enrichment, NoEnrichment) and all(isinstance(one, frozenset) for one in lists)

    def is_own_domain(self, domain: str, *, tenant: str) -> bool:
        """Whether mail to the domain, or to one below it, stays in the organisation."""
        own = self.accepted_domains | self.tenant_domains.get(tenant, frozenset())
        return any(domain == one or domain.endswith(f".{one}") for one in own)

    def look(self) -> tuple[int, ...]:
        """Numbers that change when files behind this were read anew: what was made of them is out of date."""
        return tuple([one.look() for one in self._changing()])

    def files(self) -> list[ReadFile]:
        """All files behind this."""
        return [file for one in self._changing() for file in one.files]

    def files_read(self) -> frozenset[Path]:
        """The files of which something is known, whether they are still there or not."""
        return frozenset(file.path for file in self.files() if file.version)

    def files_unread(self) -> frozenset[Path]:
        """The files that cannot be read as they are: who begins now knows nothing of them."""
        return frozenset(file.path for file in self.files() if file.trouble)

    def _changing(self) -> Iterator[Changing]:
        parts = (self.vips, self.admins, self.indicators, self.enrichment)
        # Asked for each batch; isinstance of a protocol takes 13 us for each that is none.
        return (cast("Changing", one) for one in parts if hasattr(one, "look"))

    def may_tell(self, what: str) -> bool:
        """Whether anything of that kind can be known of an address."""
        if self.tells is not None:
            return what in self.tells
        return not isinstance(self.enrichment, NoEnrichment)


NOTHING_KNOWN = Knowledge()
