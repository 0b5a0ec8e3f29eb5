"""The keys of an input or output that hold secrets, name files, or decide where a secret goes.

They are read from the schema, so that a new key of one of these kinds is covered as soon as it exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import get_args

from pydantic.fields import FieldInfo

from m365watch.config.devo_compatibility import settle_spellings
from m365watch.config.document import Document, parse_document, plain_values, section_at
from m365watch.config.models.base import DESTINATION, FOLDER, MACHINE_IDENTITY, UPLOAD, Section
from m365watch.config.models.outputs import output_sections
from m365watch.config.validation import input_section, sections_in
from m365watch.config.validation_report import KeyPath, Report

Key = tuple[str, ...]
"""A key's path in its section, without places in lists: ("credentials", "client_secret")."""
SECTION_SUFFIX = ".yaml"
"""A section that is typed may be YAML or JSON, whichever the file is."""
_OUTPUT_TYPE: Key = ("type",)


@dataclass(frozen=True, slots=True)
class SensitiveKeys:
    """Those of every input, or of every type of output together."""

    files: frozenset[Key]
    """Their value is the path of a file that is read."""
    folders: frozenset[Key]
    """Their value is the path of a folder that records are written to."""
    uploads: tuple[Key, ...]
    """Files that a page offers to upload, each once."""
    identities: frozenset[Key]
    """They send a token of this machine."""
    destinations: dict[Key, object]
    """They decide which servers the section's secrets reach; each with the value that it has if left out."""

    def is_destination(self, path: KeyPath) -> bool:
        """Whether the key, or one around it, is a destination."""
        key = key_of(path)
        return any(key[:length] in self.destinations for length in range(1, len(key) + 1))


def key_of(path: KeyPath) -> Key:
    """The path without places in lists."""
    return tuple(part for part in path if isinstance(part, str))


def sensitive_keys(kind: str) -> SensitiveKeys:
    """The sensitive keys of `inputs` or of `outputs`."""
    roots = (input_section(),) if kind == "inputs" else tuple(dict.fromkeys(output_sections().values()))
    return _keys_of(roots, of_outputs=kind != "inputs")


@lru_cache(maxsize=4)
def _keys_of(roots: tuple[type[Section], ...], *, of_outputs: bool) -> SensitiveKeys:
    fields = [one for root in roots for one in _fields_below(root, ())]
    paths = {key: field for key, field in fields if holds_path(field.annotation)}
    folders = frozenset(key for key, field in paths.items() if FOLDER in field.metadata)
    destinations = {
        key: None if field.is_required() else field.default
        for key, field in fields
        if DESTINATION in field.metadata
    }
    return SensitiveKeys(
        files=frozenset(paths) - folders,
        folders=folders,
        uploads=tuple(dict.fromkeys(key for key, field in fields if UPLOAD in field.metadata)),
        identities=frozenset(key for key, field in fields if MACHINE_IDENTITY in field.metadata),
        destinations=destinations | {_OUTPUT_TYPE: None} if of_outputs else destinations,
    )


def read_section(kind: str, name: str, text: str) -> Document:
    """The section's values, each under the one name of its key. Raises: Unreadable."""
    given = plain_values(parse_document(text, suffix=SECTION_SUFFIX)) if text.strip() else {}
    document: Document = {kind: {name: given}}
    settle_spellings(document, Report())
    return section_at(document, kind, name)


def leaves(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    """Every value that is neither an object, a list nor null, with its path."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from leaves(child, (*path, key))
    elif isinstance(value, list):
        for place, child in enumerate(value):
            yield from leaves(child, (*path, place))
    elif value is not None:
        yield path, value


def destinations_of(kind: str, section: Document) -> dict[KeyPath, str]:
    """Where the section's secrets go: each key that decides it, those left out with their defaults."""
    keys = sensitive_keys(kind)
    found = {path: _plain(value) for path, value in leaves(section) if keys.is_destination(path)}
    given = {key_of(path)[:length] for path in found for length in range(1, len(path) + 1)}
    for key, default in keys.destinations.items():
        if key not in given and default not in (None, ()):
            found[key] = _plain(default)
    return found


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fields_below(section: type[Section], path: Key) -> Iterator[tuple[Key, FieldInfo]]:
    for name, field in section.model_fields.items():
        yield (*path, name), field
        for inner in sections_in(field.annotation):
            yield from _fields_below(inner, (*path, name))


def holds_path(annotation: object) -> bool:
    """Whether the value is a path, or has some in it."""
    return annotation is Path or any(holds_path(inner) for inner in get_args(annotation))
