"""The kinds of values that a key may want, and what every section of the file has in common."""

# Annotations stay objects here (`base.Section` says why).

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    create_model,
)

from m365watch.common.sections import (
    DESTINATION,
    FilePath,
    Mark,
    Number,
    SecretText,
    Section,
    listed,
    of_text,
    refuse_boolean,
)
from m365watch.config.config_file import absolute
from m365watch.config.models import values
from m365watch.config.models.clouds import parse_base_url

__all__ = [
    "DESTINATION",
    "FilePath",
    "Mark",
    "Number",
    "SecretText",
    "Section",
    "listed",
    "of_text",
]
"""What `http` needs as well."""

NO_EFFECT = Mark()
"""A key of Devo's that is read and checked, but changes nothing in this version."""
MOSTLY_NEEDED = Mark()
"""A key that may be left out in a rare case, so that no mistake advises to remove it."""
MACHINE_IDENTITY = Mark()
"""A key that sends a token of this machine, though it holds no secret itself."""
FOLDER = Mark()
"""A path to which records are written; no secret is read from there."""
UPLOAD = Mark()
"""The path of a file that a page offers to upload."""


@dataclass(frozen=True)
class GlobalKey(Mark):
    """An option that is taken from this key of `globals` where it is left out."""

    key: str


S = TypeVar("S", bound=Section)


def remade(section: type[S], *parts: type[Section], **fields: Any) -> type[S]:
    """`section` with more keys, which are those of `parts`."""
    made = create_model(section.__name__, __base__=section, __module__=section.__module__, **fields)
    made.made_of = parts
    return made


def retyped(section: type[S], **annotations: Any) -> type[S]:
    """`section` where some keys want something else."""
    return remade(
        section, **{key: (one, copy(section.model_fields[key])) for key, one in annotations.items()}
    )


def placed(section: S, folder: Path) -> S:
    """`section` with absolute paths; relative ones start at `folder`."""
    changes: dict[str, object] = {}
    for key, value in vars(section).items():
        if isinstance(value, Path):
            changes[key] = absolute(folder, value)
        elif isinstance(value, tuple):
            changes[key] = tuple(absolute(folder, one) if isinstance(one, Path) else one for one in value)
    return section.model_copy(update=changes)


Switch = Annotated[bool, BeforeValidator(values.parse_switch)]
Label = Annotated[str, BeforeValidator(values.parse_label), Field(min_length=1)]
Name = Annotated[str, AfterValidator(values.parse_name)]
Whole = Annotated[int, BeforeValidator(refuse_boolean)]
Guid = Annotated[str, AfterValidator(values.parse_guid)]
TenantGuids = Annotated[
    tuple[Annotated[str, AfterValidator(values.parse_tenant_id)], ...],
    BeforeValidator(listed),
    Field(min_length=1),
]
Names = Annotated[tuple[Name, ...], BeforeValidator(listed)]
Instant = Annotated[datetime, BeforeValidator(of_text(values.parse_instant, datetime))]
FolderPath = Annotated[FilePath, FOLDER]
PeriodSecs = Annotated[int, BeforeValidator(of_text(values.parse_period_s))]
BaseUrl = Annotated[str, AfterValidator(parse_base_url)]

DEFAULTS: Any = {}
"""The default of a key with options: each of them left out. It is to be validated like what a file has."""

ON_OFF = "true or false"
OWN_FILE = "the path of a file that only its owner may read"
OBJECT = "an object of options"


def by_type(sections: Mapping[object, type[Section]]) -> Discriminator:
    """Chooses the section by the key `type`, among choices that are tagged `|` and the section's name."""

    def tag(given: object) -> str | None:
        kind = given.get("type") if isinstance(given, dict) else getattr(given, "type", None)
        section = sections.get(kind) if isinstance(kind, str) else None
        return None if section is None else f"|{section.__name__}"

    return Discriminator(tag)
