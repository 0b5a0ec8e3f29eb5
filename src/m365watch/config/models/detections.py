"""The keys of `detections`: which rules look at the records, and what they may know of the organisation."""

# Annotations stay objects here (`base.Section` says why).

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.config.document import Document, section_at
from m365watch.config.models.base import (
    DEFAULTS,
    OBJECT,
    ON_OFF,
    FilePath,
    Name,
    Section,
    Switch,
    Whole,
    listed,
    placed,
)
from m365watch.config.models.credentials import (
    CredentialSettings,
    ResponseCredentials,
    list_credentials,
)
from m365watch.config.models.enrichment import EnrichSection
from m365watch.config.models.notifications import ChannelSection
from m365watch.config.models.values import parse_domain, parse_label
from m365watch.config.validation_report import Report
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.registry.channel_specs import Channel

DETECTIONS = "detections"
"""The section; also the name by which the ledger knows how far the detections are, which no output has."""
Pack = Literal["core", "devo"]
Packs = Annotated[
    tuple[Pack, ...], BeforeValidator(listed), AfterValidator(lambda packs: tuple(dict.fromkeys(packs)))
]
Domain = Annotated[str, AfterValidator(parse_domain)]


def _parse_spared(text: str) -> str:
    """The account. Raises: ValueError: no step is for one that is called so, and it would not be spared."""
    if not _ACCOUNT.fullmatch(text):
        raise ValueError("is neither a user name with its domain nor an object id")
    return text


_ACCOUNT = re.compile(r"[^\s@/\\]+@[\w.-]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_Spared = Annotated[str, BeforeValidator(parse_label), AfterValidator(_parse_spared)]


@dataclass(frozen=True, slots=True)
class Responder:
    """The application that carries out the response to an alert."""

    client_id: str
    """Empty where a managed identity acts by itself."""
    credentials: tuple[CredentialSettings, ...]


class ResponseSection(Section):
    """What `m365watch respond --apply` works with."""

    credentials: ResponseCredentials | None = Field(
        default=None, title="an object with client_id and a credential"
    )
    """An application of its own: the one that collects only reads, and is to have no other right.
    `docs/respond.md` lists the permissions that each step needs."""


class DetectionsSection(Section):
    """The rules that every record goes past. `docs/detection.md` says what runs, and how alerts are read."""

    enabled: Switch | None = Field(default=None, title=ON_OFF)
    """Whether rules look at the records. Left out: where there is a lake."""

    packs: Packs = Field(default=("core", "devo"), title="core, devo, or an empty list")
    """The packs of rules that come along; `m365watch rules list` shows what is in them. An empty list leaves
    the rules of your own directories alone."""

    rules_directories: Annotated[tuple[FilePath, ...], BeforeValidator(listed)] = Field(
        default=(), title="a path, or a list of paths"
    )
    """Folders with Sigma rules of your own, searched for .yml and .yaml at any depth, but for what is hidden;
    those of SigmaHQ's m365 rules work as they are."""

    exceptions_file: FilePath | None = Field(default=None, title="the path of a file")
    """Alerts that are not to be told, in YAML: for each the rule, the entity, a reason and the day until
    which it holds."""

    risk_points: Whole = Field(default=50, ge=0, le=10_000, title="a whole number, 0 to 10,000")
    """How many points the alerts of three detections or more have to put on one account, address, application
    or site within a week, none of them high by itself, until that is an alert of its own; 0 for never."""

    accepted_domains: Annotated[frozenset[Domain], BeforeValidator(listed)] = Field(
        default=frozenset(), title="a domain, or a list of domains"
    )
    """The organisation's own mail domains: whatever goes elsewhere is external. Domains below them are
    accepted with them."""

    enrich: EnrichSection = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """Tables of addresses and lists of your own, for rules that ask where somebody came from or who it is."""

    spared_accounts: Annotated[frozenset[_Spared], BeforeValidator(listed)] = Field(
        default=frozenset(), title="a user name, or a list of them"
    )
    """Emergency accounts, your own, and whoever must not stop: `m365watch respond` locks none of them out by
    `--yes`, and says why. By user name or object id: `--apply` asks Graph for the other one, where a
    record has that."""

    response: ResponseSection = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """What carries out the steps that contain an alert; without it they are printed only."""

    notifications: dict[Name, ChannelSection] = Field(
        default={}, title="an object of targets, each under a name of its own"
    )
    """Who is told of alerts; left out, nobody: they are in `m365watch alerts list`."""

    _network: NetworkSettings = UNSET_NETWORK
    _responder: Responder | None = None

    def for_run(
        self, *, folder: Path, has_lake: bool, environment: Mapping[str, str], network: NetworkSettings
    ) -> Self:
        """The same as a run has it: paths start at `folder`, and `network` leads to who is told of alerts."""
        given = self.response.credentials
        responder = given and Responder(given.client_id or "", list_credentials(given, environment))
        enabled = has_lake if self.enabled is None else self.enabled
        changes = {"enabled": enabled, "enrich": placed(self.enrich, folder)}
        made = placed(self, folder).model_copy(update=changes)
        return made.told(_network=network, _responder=responder)

    @property
    def responder(self) -> Responder | None:
        """Who carries out what `respond` plans; None: it is printed only."""
        return self._responder

    @property
    def channels(self) -> tuple[Channel[Any], ...]:
        """Who is told of alerts."""
        return tuple(Channel(name, one, self._network) for name, one in self.notifications.items())


def check_detections(document: Document, report: Report) -> None:
    """Refuse an output of their name.

    Whether the files of the section are there is none of this: one that was renamed at night, or a list that
    is late, stops no collector. Rules go without it, and `check` and `status` name it.
    """
    if DETECTIONS in section_at(document, "outputs"):
        why = "is the name that the collector's own detections have; give the output another one"
        report.refuse(("outputs", DETECTIONS), why)
