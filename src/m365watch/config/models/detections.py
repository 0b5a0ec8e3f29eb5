"""The keys of `detections`: which rules look at the records, and what they may know of the organisation."""

# Annotations stay objects here (`base.Section` says why).

import os
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.config.config_file import Places
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
)
from m365watch.config.models.credentials import ResponseCredentials, resolve_credentials
from m365watch.config.models.enrichment import EnrichSection, place_files
from m365watch.config.models.notifications import ChannelSection
from m365watch.config.models.settings import DETECTIONS, DetectionSettings, ResponseSettings
from m365watch.config.models.values import parse_domain, parse_label
from m365watch.config.validation_report import Report
from m365watch.http.settings import NetworkSettings
from m365watch.registry.channel_specs import Channel

SECTION = "detections"
Pack = Literal["core", "devo"]
Domain = Annotated[str, AfterValidator(parse_domain)]


def _parse_spared(text: str) -> str:
    """The account. Raises: ValueError: no step is for one that is called so, and it would not be spared."""
    if not _ACCOUNT.fullmatch(text):
        raise ValueError("is neither a user name with its domain nor an object id")
    return text


_ACCOUNT = re.compile(r"[^\s@/\\]+@[\w.-]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_Spared = Annotated[str, BeforeValidator(parse_label), AfterValidator(_parse_spared)]


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

    packs: Annotated[tuple[Pack, ...], BeforeValidator(listed)] = Field(
        default=("core", "devo"), title="core, devo, or an empty list"
    )
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

    accepted_domains: Annotated[tuple[Domain, ...], BeforeValidator(listed)] = Field(
        default=(), title="a domain, or a list of domains"
    )
    """The organisation's own mail domains: whatever goes elsewhere is external. Domains below them are
    accepted with them."""

    enrich: EnrichSection = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """Tables of addresses and lists of your own, for rules that ask where somebody came from or who it is."""

    spared_accounts: Annotated[tuple[_Spared, ...], BeforeValidator(listed)] = Field(
        default=(), title="a user name, or a list of them"
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


def check_detections(document: Document, *, places: Places, report: Report) -> None:
    """Make the paths of directories and files absolute, in place.

    Whether they are there is none of this: a file that was renamed at night stops no
    collector, and `check` and `status` name it.
    """
    if DETECTIONS in section_at(document, "outputs"):
        why = "is the name that the collector's own detections have; give the output another one"
        report.refuse(("outputs", DETECTIONS), why)
    section = section_at(document, SECTION)
    exceptions = section.get("exceptions_file")
    if isinstance(exceptions, str) and exceptions.strip() and not exceptions.startswith("~"):
        section["exceptions_file"] = os.path.normpath(places.folder / exceptions)
    place_files(section, places=places)
    if section.get("rules_directories") is not None:
        _place_directories(section, places=places)


def _place_directories(section: Document, *, places: Places) -> None:
    written = section["rules_directories"]
    given = [written] if isinstance(written, str) else written
    if not isinstance(given, list):
        return
    section["rules_directories"] = [
        os.path.normpath(places.folder / one)
        if isinstance(one, str) and one.strip() and not one.startswith("~")
        else one
        for one in given
    ]


def is_on(section: DetectionsSection, *, has_lake: bool) -> bool:
    """Whether rules look at the records."""
    return has_lake if section.enabled is None else section.enabled


def resolve_detections(
    section: DetectionsSection,
    *,
    has_lake: bool,
    environment: Mapping[str, str],
    network: NetworkSettings,
) -> DetectionSettings:
    """What the detections are told to do; `network` is how those are reached who are told of alerts."""
    given = section.response.credentials
    return DetectionSettings(
        enabled=is_on(section, has_lake=has_lake),
        packs=tuple(dict.fromkeys(section.packs)),
        rules_directories=section.rules_directories,
        exceptions_file=section.exceptions_file,
        risk_points=section.risk_points or None,
        accepted_domains=frozenset(section.accepted_domains),
        enrich=section.enrich,
        spared_accounts=frozenset(section.spared_accounts),
        response=None
        if given is None
        else ResponseSettings(given.client_id or "", resolve_credentials(given, environment)),
        channels=tuple(Channel(name, one, network) for name, one in section.notifications.items()),
    )
