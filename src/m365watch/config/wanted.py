"""What the schema says about a key: what it wants, and which keys stand beside it."""

from __future__ import annotations

from typing import get_args, get_origin

from pydantic.fields import FieldInfo

from m365watch.config.models.base import MOSTLY_NEEDED, Section
from m365watch.config.models.schema import configuration_file
from m365watch.config.validation_report import KeyPath

_OR_CONSENT = ", or let `m365watch consent serve` find the tenant and write it here"


def wanted_at(path: KeyPath) -> str:
    """The end of a mistake's sentence: `give the tenant's GUID`, or less where no key is known."""
    field = field_at(path)
    if field is None or not field.title:
        return "give a value or remove the key"
    stays = field.is_required() or MOSTLY_NEEDED in field.metadata
    return f"give {field.title}" + ("" if stays else ", or remove the key")


def filled_in_at(path: KeyPath) -> str:
    """The same of a key that nobody has filled in yet, and which a command may fill in."""
    return wanted_at(path) + (_OR_CONSENT if "tenant_id" in path else "")


def field_at(path: KeyPath) -> FieldInfo | None:
    """The field that the path ends in, or goes into last; None above the first known key.

    A part that starts with "|" is the schema's own mark of one variant and narrows the choice.
    """
    return _walk(path)[0]


def keys_beside(path: KeyPath) -> list[str]:
    """The known keys of the section that holds the last key of the path."""
    return [name for section in _walk(path[:-1])[1] for name in section.model_fields]


def input_section() -> type[Section]:
    """The section of one input, with every registered kind of credential."""
    return sections_in(configuration_file().model_fields["inputs"].annotation)[0]


def sections_in(annotation: object) -> list[type[Section]]:
    """The sections that a field may hold, whatever lists, choices and marks are around them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in get_args(annotation) for section in sections_in(inner)]


def _walk(path: KeyPath) -> tuple[FieldInfo | None, list[type[Section]]]:
    field: FieldInfo | None = None
    sections: list[type[Section]] = [configuration_file()]
    name_is_free = False
    for part in path:
        if isinstance(part, int) or name_is_free:
            # A place in a list, or a name of the user's own, leads to the same sections.
            name_is_free = False
            continue
        if part.startswith("|"):
            sections = [section for section in sections if section.__name__ == part[1:]]
            continue
        field = next((s.model_fields[part] for s in sections if part in s.model_fields), None)
        sections = sections_in(field.annotation) if field else []
        name_is_free = field is not None and get_origin(field.annotation) is dict
    return field, sections
