"""Names that records are known to use: record types, operations, fields at the top of a record."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from m365watch.pipeline.names import Kind

_CMDLET = re.compile(r"[A-Z][A-Za-z]+-[A-Z]\w*", re.ASCII)
"""An operation of Exchange's and Purview's administration: a cmdlet, of which there is no list."""


@dataclass(frozen=True, slots=True)
class KnownNames:
    """What Microsoft documents, and what published records use besides."""

    record_types: dict[str, str]
    """Name by number, as text."""
    operations: frozenset[str]
    fields: frozenset[str]

    def has(self, kind: Kind, name: str) -> bool:
        """Whether `name` is known; a record type is, by its number or its name."""
        match kind:
            case Kind.RECORD_TYPE:
                return name in self.record_types or name in self.record_types.values()
            case Kind.OPERATION:
                return name in self.operations or _CMDLET.fullmatch(name) is not None
            case Kind.FIELD:
                return name in self.fields


@cache
def known_names() -> KnownNames:
    """The names of the packaged list, read once.

    Source: Management Activity API schema (record types, properties, SharePoint's operations), Purview's
    "Audit log activities" with the pages of eDiscovery and Teams that it refers to, which name operations
    that the schema does not, and published audit records.
    """
    said = msgspec.json.decode(Path(__file__).with_name("known_names.json").read_bytes())
    return KnownNames(
        record_types={str(number): name for number, name in said["record_types"]},
        operations=frozenset(said["operations"]),
        fields=frozenset(said["fields"]),
    )
