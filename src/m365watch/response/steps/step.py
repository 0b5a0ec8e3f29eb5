"""Steps of a response, as values: what is asked of Graph, and what PowerShell would do instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import Literal

from m365watch.config.models.clouds import CLOUDS, Cloud
from m365watch.config.models.settings import Settings

Alternatives = tuple[tuple[str, str], ...]
"""Dotted properties of Graph and their values, of which one has to be so; an empty value stands for any."""
Agreement = tuple[Alternatives, ...]
"""All of these have to be so."""
Method = Literal["GET", "POST", "PATCH", "DELETE"]
GLOBAL_ADMINISTRATOR = "62e90394-69f5-4237-9190-012177145e10"
"""The role's template id, which is the same in every tenant, and the id of its definition."""
ADMINISTRATORS = (
    f"/directoryRoles(roleTemplateId='{GLOBAL_ADMINISTRATOR}')/members"
    "?$select=id,userPrincipalName,accountEnabled"
)
"""The path of those who hold it."""

LEAVES = "--yes leaves it alone."
"""How a note ends that says why only a person may say yes to its step."""


def cloud_of(settings: Settings, tenant_id: str) -> Cloud:
    """The tenant's cloud; what it does not tell, or the configuration of that tenant, is the public one's.

    Where Graph is, one whose hosts are given one by one tells by its others.
    """
    found = next((one.cloud for one in settings.tenants if one.tenant_id == tenant_id), CLOUDS["worldwide"])
    if found.graph_url:
        return found
    alike = [one for one in CLOUDS.values() if one.management_url == found.management_url]
    alike += [one for one in CLOUDS.values() if one.login_url == found.login_url]
    return replace(found, graph_url=next(iter(alike), CLOUDS["worldwide"]).graph_url)


@dataclass(frozen=True, slots=True)
class GraphCall:
    """One call of Graph. In `path` {subject.x} and {found.x} stand for what was read before."""

    method: Method
    path: str
    """Below /v1.0, encoded."""
    body: Mapping[str, object] | None = None

    def url(self, graph_url: str) -> str:
        """The whole address, at that host of Graph."""
        return f"{graph_url.rstrip('/')}/v1.0{self.path}"

    def line(self, graph_url: str) -> str:
        """`PATCH https://graph.microsoft.com/v1.0/users/... {"accountEnabled": false}`."""
        body = "" if self.body is None else f" {json.dumps(self.body)}"
        return f"{self.method} {self.url(graph_url)}{body}"


@dataclass(frozen=True, slots=True)
class Act:
    """A call that is its own end, and that nothing takes back."""

    call: GraphCall

    @property
    def calls(self) -> tuple[GraphCall, ...]:
        """In their order."""
        return (self.call,)


@dataclass(frozen=True, slots=True)
class Revise:
    """Sets properties; what they were is read before, and is what takes it back."""

    path: str
    properties: Mapping[str, object]
    subject: str = ""
    """The path of what has to be read first, for {subject.id} and the like."""
    locks_out: bool = False
    """Whether somebody's power over the tenant may end by it: not done to the last one unawares."""
    identified: str = ""
    """The path that tells whose application it is: Microsoft's own and this product's are left alone."""

    @property
    def calls(self) -> tuple[GraphCall, ...]:
        """In their order."""
        before = tuple(GraphCall("GET", one) for one in (self.subject, self.identified) if one)
        look = GraphCall("GET", f"{self.path}?$select=id,{','.join(self.properties)}")
        others = (GraphCall("GET", ADMINISTRATORS),) if self.locks_out else ()
        return (*before, look, *others, GraphCall("PATCH", self.path, self.properties))


@dataclass(frozen=True, slots=True)
class Remove:
    """Removes from a list what has one of the wanted values; where none are known, a person picks."""

    listed: str
    """The path of the list."""
    removal: GraphCall
    label: tuple[str, ...]
    """Properties that tell a person what is found; dotted."""
    wanted: tuple[tuple[str, str], ...] = ()
    """Dotted properties and their values: addresses in either case, all else exactly.

    Of a property in a list one is enough; a person picks where the others of that list are not wanted.
    """
    kind: str = ""
    """The `@odata.type` of what may go, of a list that has other kinds as well."""
    alike: tuple[tuple[str, str], ...] = ()
    """Dotted properties and values of which what is found has one, or a person picks: another thing may have
    got its name since. An empty value stands for any."""
    agrees: tuple[Agreement, ...] = ()
    """Of each thing of that name what it does by the records, all of which has to be so."""
    folders: tuple[tuple[str, str], ...] = ()
    """Dotted properties that are a folder's id, and the path that tells its name, by which it is compared."""
    wanted_of_subject: tuple[tuple[str, str], ...] = ()
    """Dotted properties, and those of what was read first which they have to be equal to."""
    microsoft_too: bool = False
    """Whether it may be done to Microsoft's own as well: it takes away what was added here."""
    is_named: bool = True
    """Whether what is wanted may be there under another name, where it is not found."""
    in_either_case: bool = False
    """Whether what is wanted may be spelt in other capitals: of two that differ so a person picks."""
    is_one: bool = False
    """Whether each name means one thing of the list, so that a person picks where more are called so."""
    takes_all: bool = False
    """Whether all that is listed has to go."""
    owner: str = ""
    """The path that tells, where it may be read, by which object's id whose list it is: a mailbox has many
    names."""
    subject: str = ""
    """The path of what has to be read first, for {subject.id} and the like."""
    subject_name: str = ""
    """What that has to be called, in either case, or nothing is done; empty for whatever it is called."""
    restored_at: str = ""
    """The path that takes it again by POST; empty where nothing takes it back."""
    restored: tuple[str, ...] = ()
    """The properties that are given back."""
    instances: str = ""
    """The path of the list that tells, by `roleAssignmentOriginId`, when each of them ends by itself: what
    does would be there for good if it were taken back. Empty where nothing does."""
    locks_out: bool = False
    """Whether somebody's power over the tenant may end by it: not done to the last one unawares."""
    leaves_group: bool = False
    """Whether what was read first leaves the group that is found, which may hold that power for it."""
    identified: str = ""
    """The path that tells whose application it is: Microsoft's own and this product's are left alone."""

    @property
    def calls(self) -> tuple[GraphCall, ...]:
        """In their order; the last one for each thing that is found."""
        read = (self.subject, self.identified, self.owner)
        before = tuple(GraphCall("GET", one) for one in read if one)
        others = (GraphCall("GET", ADMINISTRATORS),) if self.locks_out or self.leaves_group else ()
        folders = (GraphCall("GET", path) for _, path in self.folders)
        ends = (GraphCall("GET", self.instances),) if self.instances else ()
        return (*before, GraphCall("GET", self.listed), *folders, *ends, *others, self.removal)


Operation = Act | Revise | Remove


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it does, to what, and how."""

    word: str
    """The rule's word for it: revoke_sessions."""
    title: str
    operations: tuple[Operation, ...] = ()
    """What Graph can do; empty: by hand, as PowerShell or the notes say."""
    powershell: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    """Application permissions of Graph that the operations need."""
    wished: tuple[str, ...] = ()
    """Those without which they do, and leave more to a person."""
    notes: tuple[str, ...] = ()
    asks_always: bool = False
    """Whether a person has to say yes to it whatever was said before: what ties it to the attack is weak."""
    since: datetime | None = None
    """When the last record of it was made; what was done before that, it may have been done again since."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a person has to say yes to it."""
        return tuple(note for note in self.notes if note.endswith(LEAVES))

    @property
    def is_by_hand(self) -> bool:
        """Whether Graph cannot carry it out."""
        return not self.operations

    @property
    def can_be_undone(self) -> bool:
        """Whether everything that it does can be taken back."""
        return bool(self.operations) and all(
            isinstance(one, Revise) or (isinstance(one, Remove) and bool(one.restored_at))
            for one in self.operations
        )

    @property
    def way(self) -> str:
        """How it ends, in words."""
        if self.is_by_hand:
            return "by hand"
        told = "can be undone" if self.can_be_undone else "cannot be undone"
        return f"{told}, never without your yes" if self.asks_always else told

    @property
    def calls(self) -> tuple[GraphCall, ...]:
        """All calls of Graph, in their order."""
        return tuple(call for one in self.operations for call in one.calls)


@dataclass(frozen=True, slots=True)
class PartOfIt:
    """An alert that the planned one joins, whose own plan has more."""

    alert_id: str
    title: str
    words: tuple[str, ...]
    """What its plan has that this one lacks."""

    @property
    def more(self) -> str:
        """The same in words."""
        return ", ".join(word.replace("_", " ") for word in self.words)


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps for one alert, the door first."""

    alert_id: str
    tenant: str
    title: str
    steps: tuple[Step, ...]
    parts: tuple[PartOfIt, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    since: datetime | None = None
    """When the alert's first record was made; what was done before that was about something else."""
    checks: tuple[str, ...] = ()
    """What the alert's rule asks first, and what tells whether any of the steps is to be done."""

    @property
    def by_hand(self) -> tuple[int, ...]:
        """The numbers of the steps that Graph cannot carry out: they are left to a person."""
        return tuple(number for number, step in enumerate(self.steps, 1) if step.is_by_hand)

    @property
    def mark(self) -> str:
        """Eight digits that another plan has not: what was read is what is done, whatever came meanwhile."""
        said = repr([(one.title, one.operations, one.asks_always) for one in self.steps])
        return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()

    @property
    def permissions(self) -> tuple[str, ...]:
        """What the application needs for all of it, each once."""
        return tuple(sorted({name for step in self.steps for name in step.permissions}))

    @property
    def wished(self) -> tuple[str, ...]:
        """What it had better have besides, each once."""
        found = {name for step in self.steps for name in step.wished}
        return tuple(sorted(found.difference(self.permissions)))

    @property
    def permissions_told(self) -> tuple[str, ...]:
        """Both in words, without a stop at the end."""
        needed, wished = ", ".join(self.permissions), ", ".join(self.wished)
        told = [f"Graph needs these application permissions: {needed}"] if needed else []
        return (*told, *([f"With these besides less is left to you: {wished}"] if wished else []))
