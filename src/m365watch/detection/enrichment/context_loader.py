"""What a configuration's files say, as rules ask for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from m365watch.common.clock import Clock
from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.enrichment import FILE_KEYS
from m365watch.detection.enrichment.geoip import Addresses
from m365watch.detection.enrichment.watched_file import Tell, Watched, say_nothing
from m365watch.detection.enrichment.watchlists import Lists
from m365watch.detection.fields.enrichment_context import Knowledge, NoEnrichment


def make_knowledge(settings: DetectionsSection, *, clock: Clock, tell: Tell = say_nothing) -> Knowledge:
    """The knowledge of the settings; no file is read but the heads of tables, which say what they tell.

    `tell` gets a line for each file that cannot be read, once it is found out.
    """
    given = settings.enrich

    def lists_of(files: Sequence[Path], named: Sequence[str] = ()) -> Collection[str]:
        return Lists(files, clock=clock, named=named, tell=tell) if files or named else frozenset[str]()

    addresses = Addresses(
        given.databases,
        tor=Lists(given.tor_lists, clock=clock, tell=tell, of_addresses=True),
        vpn=Lists(given.vpn_lists, clock=clock, tell=tell, of_addresses=True),
        hosting=Lists(given.hosting_lists, clock=clock, tell=tell, of_addresses=True),
        clock=clock,
        tell=tell,
    )
    tells = addresses.tells
    return Knowledge(
        accepted_domains=settings.accepted_domains,
        vips=lists_of(given.vip_lists, named=given.vips),
        admins=lists_of(given.admin_lists, named=given.admins),
        indicators=lists_of(given.indicator_lists),
        enrichment=addresses if tells else NoEnrichment(),
        tells=tells,
    )


def go_on_from(before: Knowledge, knowledge: Knowledge) -> Knowledge:
    """The knowledge, in which what files said before counts on: they may be lost by now."""
    known = {file.path: file for file in before.files() if isinstance(file, Watched)}
    for file in knowledge.files():
        if isinstance(file, Watched) and file.path in known:
            file.go_on_from(known[file.path])
    return knowledge


def readable(settings: DetectionsSection, *, clock: Clock) -> tuple[DetectionsSection, list[str]]:
    """The settings without the files that cannot be read as they are, and a line for each of those."""
    given, troubles = settings.enrich, troubles_of(make_knowledge(settings, clock=clock))
    bad = {line.partition(": ")[0] for line in troubles}

    left = given.model_copy(
        update={key: tuple(path for path in getattr(given, key) if str(path) not in bad) for key in FILE_KEYS}
    )
    return settings.model_copy(update={"enrich": left}), troubles


def troubles_of(knowledge: Knowledge) -> list[str]:
    """A line for each file that cannot be read as it is, or that has nothing in it."""
    addresses = knowledge.enrichment
    tables = addresses.troubles() if isinstance(addresses, Addresses) else []
    return [*tables, *(line for one in _lists_of(knowledge) for line in one.troubles())]


def remarks_of(knowledge: Knowledge) -> list[str]:
    """A line for each file of which some lines say nothing."""
    return [line for one in _lists_of(knowledge) for line in one.remarks()]


def _lists_of(knowledge: Knowledge) -> list[Lists]:
    addresses = knowledge.enrichment
    found = list(addresses.lists.values()) if isinstance(addresses, Addresses) else []
    return [
        *found,
        *(one for one in (knowledge.vips, knowledge.admins, knowledge.indicators) if isinstance(one, Lists)),
    ]
