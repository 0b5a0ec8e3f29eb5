"""Who takes part in a chat or joins a team, and on which side each of them is.

A record says it itself, by the tenant of each who takes part or of each domain; else the accepted domains do.
What ends in onmicrosoft.com is seldom among these, though every tenant has one of its own: by its name alone
it is of nobody's side. Who is of neither side that is known is called neither an outsider nor a colleague.

Source: the API's schema of Teams, and the shapes of 12 published chats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m365watch.detection.fields.email_addresses import bare_addresses

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

_MEMBERS_MAX = 200
_FIRST_DOMAIN = ".onmicrosoft.com"
"""What ends so is the first domain of some tenant, and nobody writes their own down."""


@dataclass(frozen=True, slots=True)
class Member:
    """Who takes part, or joins."""

    upn: str
    """As the record has it."""
    shown: str
    """The name that others see."""
    address: str
    """Bare, in lower case: of a guest the own one; empty where there is none."""
    is_outside: bool | None
    """None where neither the record nor a setting tells."""

    @property
    def is_guest(self) -> bool:
        """Whether it is an account that the tenant keeps for somebody of elsewhere."""
        return "#ext#" in self.upn.lower()

    @property
    def domain(self) -> str:
        """What stands behind the @ of the address."""
        return self.address.rpartition("@")[2]


def outside_members(view: View) -> tuple[Value, ...]:
    """Who is of another organisation: an address, and of a guest the name that the tenant has for them."""
    outside = [one for one in list_members(view) if one.is_outside]
    named = (one.upn.lower() if one.is_guest else one.address for one in outside)
    return tuple(dict.fromkeys(one for one in named if one))


def inside_members(view: View) -> tuple[Value, ...]:
    """Who is of this organisation: an address."""
    inside = (one.address for one in list_members(view) if one.is_outside is False)
    return tuple(dict.fromkeys(one for one in inside if one))


def guest_members(view: View) -> tuple[Value, ...]:
    """The guests among them, by the names that the tenant has for them."""
    return tuple(dict.fromkeys(one.upn for one in list_members(view) if one.is_guest))


def stranger_names(view: View) -> tuple[Value, ...]:
    """The names that others see of those who are not known to be of this organisation."""
    return tuple(one.shown for one in list_members(view) if one.is_outside is not False and one.shown)


def stranger_addresses(view: View) -> tuple[Value, ...]:
    """The same of what they sign in with."""
    return tuple(one.upn for one in list_members(view) if one.is_outside is not False and one.upn)


def foreign_domains(view: View) -> tuple[Value, ...]:
    """Domains of outsiders that are certainly none of the organisation's own.

    A guest may have been a colleague: of the guests of contoso.onmicrosoft.com those of contoso.example are
    not certain while no domain is known.
    """
    members = list_members(view)
    own = {one.domain for one in members if one.is_outside is False}
    own |= {one.upn.rpartition("@")[2].lower() for one in members if one.is_guest}
    akin = set() if _knows_domains(view) else {one.partition(".")[0] for one in own}
    found = dict.fromkeys(one.domain for one in members if one.is_outside and one.domain)
    return tuple(
        one
        for one in found
        if one not in own
        and one.partition(".")[0] not in akin
        and not view.knowledge.is_own_domain(one, tenant=view.tenant)
    )


def _knows_domains(view: View) -> bool:
    return bool(view.knowledge.accepted_domains or view.knowledge.tenant_domains.get(view.tenant))


def list_members(view: View) -> list[Member]:
    """All who take part; where the record lists nobody, who acted."""
    known: list[Member] | None = view.worked_out.get("members")
    if known is None:
        found = {one.upn.lower() or one.shown: one for one in _listed(view)}
        known = view.worked_out["members"] = list(found.values())[:_MEMBERS_MAX]
    return known


def _listed(view: View) -> Iterator[Member]:
    domains = _sides_of_domains(view)
    own = _own_tenants(view)
    written = list(_objects(view.record, "Members")) or [{"UPN": view.first("UserId")}]
    for one in written[:_MEMBERS_MAX]:
        upn, shown = _text(one.get("UPN")), _text(one.get("DisplayName"))
        address = next(iter(bare_addresses(upn)), "")
        tenant = _text(one.get("OrganizationId")).lower()
        tenant = tenant if tenant.strip("0-") else ""
        by_record = tenant not in own if tenant else domains.get(address.rpartition("@")[2])
        yield Member(upn, shown, address, _is_outside(view, upn, address, by_record=by_record))


def _is_outside(view: View, upn: str, address: str, *, by_record: bool | None) -> bool | None:
    """A setting comes first: an organisation may have several tenants."""
    knowledge, domain = view.knowledge, address.rpartition("@")[2]
    if "#ext#" in upn.lower():
        return True
    if domain and knowledge.is_own_domain(domain, tenant=view.tenant):
        return False
    if by_record is not None or not domain:
        return by_record
    if domain.endswith(_FIRST_DOMAIN):
        own = view.first("OrganizationName").rpartition("@")[2].lower()
        return False if domain == own else None
    return True if _knows_domains(view) else None


def _own_tenants(view: View) -> set[str]:
    named = (view.tenant, view.first("OrganizationId"))
    return {one.lower() for one in named if one}


def _sides_of_domains(view: View) -> dict[str, bool]:
    """By domain, whether it is another tenant's, as far as the record says whose they are."""
    own = _own_tenants(view)
    found: dict[str, bool] = {}
    for one in _objects(view.record.get("ParticipantInfo"), "ParticipatingSIPDomains"):
        domain, tenant = _text(one.get("DomainName")).lower(), _text(one.get("TenantId")).lower()
        if domain and tenant:
            found[domain] = tenant not in own
    return found


def _objects(value: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """The objects of a list below the key, also where they are JSON in a string."""
    from m365watch.detection.fields.record_view import open_json

    above = open_json(value)
    listed = open_json(above.get(key)) if isinstance(above, Mapping) else None
    for one in listed if isinstance(listed, list) else [listed]:
        opened = open_json(one)
        if isinstance(opened, Mapping):
            yield opened


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
