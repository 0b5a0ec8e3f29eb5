"""What a configuration's files say, as rules ask for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from m365watch.clock import Clock
from m365watch.config.settings import DetectionSettings
from m365watch.detect.enrich.addresses import Addresses
from m365watch.detect.enrich.lists import Lists
from m365watch.detect.enrich.watched import Tell, say_nothing
from m365watch.detect.knowledge import Knowledge, NoEnrichment


def make_knowledge(settings: DetectionSettings, *, clock: Clock, tell: Tell = say_nothing) -> Knowledge:
    """The knowledge of the settings; no file is read but the heads of tables, which say what they tell.

    `tell` gets a line for each file that cannot be read, once it is found out.
    """
    given = settings.enrich

    def lists_of(files: Sequence[Path], named: Sequence[str] = ()) -> Collection[str]:
        return Lists(files, clock=clock, named=named, tell=tell) if files or named else frozenset[str]()

    addresses = Addresses(
        given.databases,
        tor=Lists(given.tor_lists, clock=clock, tell=tell),
        vpn=Lists(given.vpn_lists, clock=clock, tell=tell),
        hosting=Lists(given.hosting_lists, clock=clock, tell=tell),
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


def troubles_of(knowledge: Knowledge) -> list[str]:
    """A line for each file that cannot be read as it is."""
    addresses = knowledge.enrichment
    found = addresses.troubles() if isinstance(addresses, Addresses) else []
    for one in (knowledge.vips, knowledge.admins, knowledge.indicators):
        found += one.troubles() if isinstance(one, Lists) else []
    return found
