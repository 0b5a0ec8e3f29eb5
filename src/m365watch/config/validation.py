"""A tidy document held against the schema: the file it stands for, or every mistake in it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from m365watch.config.document import NOTIFICATIONS
from m365watch.config.models.base import MOSTLY_NEEDED, Section
from m365watch.config.models.schema import ConfigurationFile, configuration_file
from m365watch.config.validation_report import KeyPath, Report
from m365watch.config.warnings import warn_of_oddities
from m365watch.registry.channel_specs import CHANNELS
from m365watch.registry.output_specs import OUTPUTS

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


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


_REASONS = {
    "literal_error": "is not supported by this version",
    "greater_than_equal": "is out of range",
    "less_than_equal": "is out of range",
    "greater_than": "is out of range",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "too_long": "has too many parts",
    "int_from_float": "is not a whole number",
}
"""What pydantic's kinds of mistakes are called here; every other one is "of the wrong kind"."""


def read_schema(document: object, report: Report) -> ConfigurationFile | None:
    """The file that the document stands for; None if there are mistakes, which are in `report`."""
    try:
        file = configuration_file().model_validate(document, context=document)
    except ValidationError as error:
        _refuse_all(document, error.errors(include_url=False), report)
        return None
    warn_of_oddities(document, file, report)
    return file


def _refuse_all(document: object, errors: list[ErrorDetails], report: Report) -> None:
    """Refuse what pydantic found; a key that is only misspelt is not missing as well."""
    meant = set()
    for details in errors:
        if details["type"] == "extra_forbidden":
            path = _path_in(document, details["loc"])
            near = _nearest_key(details["loc"])
            # An unknown key outweighs what else was found wrong with its value.
            report.mistakes[path] = _unknown_key(details["loc"], near)
            meant.add((*path[:-1], near))
    places = [details["loc"] for details in errors]
    for details in errors:
        path = _path_in(document, details["loc"])
        if details["type"] == "missing" and path in meant:
            continue
        if details["type"] == "too_short" and any(_is_within(one, details["loc"]) for one in places):
            continue  # it is not empty: what is in it is wrong
        if details["type"] != "extra_forbidden":
            _refuse(path, details, report)


def _is_within(place: KeyPath, whole: KeyPath) -> bool:
    return len(place) > len(whole) and place[: len(whole)] == whole


def _refuse(path: KeyPath, details: ErrorDetails, report: Report) -> None:
    marked = details["loc"]
    kind = details["type"]
    if kind == "missing":
        report.refuse(path, f"is missing; {filled_in_at(marked)}")
    elif kind.startswith("union_tag"):
        _refuse_type(path, details["input"], report)
    elif marked[-1:] == ("[key]",):
        own = str(details.get("ctx", {}).get("error", ""))
        usual = 'is not a name; give 1 to 64 letters, digits, "_" and "-"'
        report.refuse(path, own if ";" in own else usual)
    else:
        report.refuse_value(path, details["input"], _reason(details))


def _reason(details: ErrorDetails) -> str:
    """The end of the sentence that starts with the value; our own validators may end it themselves."""
    reason = _REASONS.get(details["type"], "is of the wrong kind")
    if details["type"] == "value_error":
        reason = str(details["ctx"]["error"])
    return reason if ";" in reason else f"{reason}; {wanted_at(details['loc'])}"


def _nearest_key(marked: KeyPath) -> str | None:
    near = difflib.get_close_matches(str(marked[-1]), keys_beside(marked), n=1)
    return near[0] if near else None


def _unknown_key(marked: KeyPath, near: str | None) -> str:
    if near:
        return f'unknown key; did you mean "{near}"?'
    return f"unknown key; known here: {', '.join(keys_beside(marked))}"


def _refuse_type(path: KeyPath, given: object, report: Report) -> None:
    """Refuse an output, or a target of notifications, whose type is none."""
    kind, wanted = ("output", OUTPUTS.types_wanted)
    if path[:2] == NOTIFICATIONS:
        kind, wanted = ("target of notifications", CHANNELS.types_wanted)
    if not isinstance(given, dict):
        options = "type and config" if kind == "output" else "type and its keys"
        report.refuse_value(path, given, f"is of the wrong kind; give an object with {options}")
    elif given.get("type") is None:
        report.refuse((*path, "type"), f"is missing; give {wanted}")
    else:
        report.refuse_value((*path, "type"), given["type"], f"is no {kind}; give {wanted}")


def _path_in(document: object, marked: KeyPath) -> KeyPath:
    """The path as it stands in the document, without the schema's marks of variants."""
    path: KeyPath = ()
    for part in marked:
        if isinstance(part, str) and (part.startswith("|") or part == "[key]"):
            continue
        if not isinstance(document, dict | list):
            # One text may stand where a list may be; its place in that list is not in the file.
            break
        path = (*path, part)
        document = _child(document, part)
    return path


def _child(document: dict[str, object] | list[object], part: str | int) -> object:
    if isinstance(document, dict):
        return document.get(part) if isinstance(part, str) else None
    return document[part] if isinstance(part, int) and part < len(document) else None
