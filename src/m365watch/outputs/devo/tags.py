"""Which of Devo's tables a record goes to, so that none ends in `unknown.unknown`."""

from __future__ import annotations

import re

import structlog

from m365watch.config.models.values import TAG_LEVEL
from m365watch.config.models.wire_values import TABLE_PREFIX
from m365watch.outputs.network.settings import TaggedOutput

TAG_CHARACTERS_MAX = 1024
"""Source: Devo's Collector SDK 1.8.0."""
LEVELS = (2, 6)
"""How few and how many levels a tag has. Source: Devo documentation, "About Devo tags"."""

KNOWN_WORKLOADS = frozenset(
    {
        "aip",
        "airinvestigation",
        "azureactivedirectory",
        "cca",
        "compliance",
        "compliancemanager",
        "complianceposturemanager",
        "corereporting",
        "crm",
        "dlpsensitiveinformationtype",
        "endpoint",
        "exchange",
        "mcas",
        "microsoftflow",
        "microsoftforms",
        "microsoftstream",
        "microsoftteams",
        "mip",
        "myanalytics",
        "officeapps",
        "onedrive",
        "onedriveforbusiness",
        "powerapps",
        "powerbi",
        "powerplatform",
        "powerplatformadmin",
        "project",
        "publicendpoint",
        "quarantine",
        "rdl",
        "se",
        "securitycompliancecenter",
        "sharepoint",
        "skypeforbusiness",
        "threatintelligence",
        "workplaceanalytics",
        "yammer",
    }
)
"""The last levels of the tables below cloud.office365.management that Devo has.

Source: Devo documentation, "Microsoft 365 Management API collector", and the table catalogue of a
live domain.
"""

_REMEMBERED_MAX = 10_000
_log = structlog.get_logger(__name__)


class Tags:
    """Gives each table the tag that its records are sent under."""

    def __init__(self, settings: TaggedOutput) -> None:
        """`settings` are the output's."""
        self._fallback = settings.config.fallback_tag
        self._known = frozenset(TABLE_PREFIX + name for name in KNOWN_WORKLOADS) | {
            *settings.config.known_tables
        }
        self._overrides = [_pattern_of(override) for override in settings.override_tags]
        self._where = f"output {settings.name}"
        self._tags: dict[str, str] = {}

    def tag_of(self, table: str) -> str:
        """The table itself, or the fallback where Devo has no such table or could have none.

        A table that an `override_tag` names is used as it is. Each table that Devo lacks is told once.
        """
        tag = self._tags.get(table)
        if tag is None:
            if len(self._tags) >= _REMEMBERED_MAX:
                self._tags.clear()
            tag = self._tags[table] = self._choose(table)
        return tag

    def _choose(self, table: str) -> str:
        if not is_tag(table):
            self._tell(table, "cannot be a tag at Devo")
            return self._fallback
        if any(override.fullmatch(table) for override in self._overrides):
            return table
        if table.startswith(TABLE_PREFIX) and table not in self._known:
            self._tell(table, "is no table that Devo is known to have")
            return self._fallback
        return table

    def _tell(self, table: str, what: str) -> None:
        _log.warning(
            f"{self._where}: {table[:TAG_CHARACTERS_MAX]!r} {what}; its records are sent as "
            f"{self._fallback} until it is among the known tables"
        )


def _pattern_of(override: str) -> re.Pattern[str]:
    """What `override_tag` can come to: each placeholder is one level."""
    fixed = re.split(r"\{(?:workload|operation)\}", override)
    return re.compile("[a-z0-9_-]+".join(map(re.escape, fixed)))


def is_tag(text: str) -> bool:
    """Whether `text` is a tag of Devo's: 2 to 6 levels of letters, digits, "_" and "-"."""
    levels = text.split(".")
    return (
        len(text) <= TAG_CHARACTERS_MAX
        and LEVELS[0] <= len(levels) <= LEVELS[1]
        and all(TAG_LEVEL.fullmatch(level) for level in levels)
    )
