"""The kinds of values that a key may want, and what every section of the file has in common."""

# Annotations stay objects here (`base.Section` says why).

from collections.abc import Callable, Mapping
from copy import copy
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    create_model,
    model_validator,
)

from m365watch.config.models import values
from m365watch.config.models.clouds import parse_base_url


class Mark:
    """Says more of a key than its type does."""


NO_EFFECT = Mark()
"""A key of Devo's that is read and checked, but changes nothing in this version."""
MOSTLY_NEEDED = Mark()
"""A key that may be left out in a rare case, so that no mistake advises to remove it."""
DESTINATION = Mark()
"""A key that decides which server a secret beside it reaches."""
MACHINE_IDENTITY = Mark()
"""A key that sends a token of this machine, though it holds no secret itself."""
FOLDER = Mark()
"""A path to which records are written; no secret is read from there."""
UPLOAD = Mark()
"""The path of a file that a page offers to upload."""


class Section(BaseModel):
    """One object of the file."""

    # Where annotations are texts, pydantic compiles each of them at every start, 4 ms of CPU for all:
    # their modules do without `from __future__ import annotations`.
    # The words below the keys are read for the reference page alone: finding them at every start took 15 ms.
    # A section is built once it is read, for most are in no file.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    made_of: ClassVar[tuple[type["Section"], ...]] = ()
    """Of one that was made at run time: the sections that have the words below its own keys."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, given: object) -> object:
        """A known key without a value counts as left out, as it does in Devo's collector."""
        if not isinstance(given, dict):
            return given
        return {k: v for k, v in given.items() if v is not None or k not in cls.model_fields}


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


def of_text(parse: Callable[[str], object], parsed: type = str) -> Callable[[object], object]:
    """A validator that hands texts to `parse`, lets what is `parsed` already pass, and refuses all else."""

    def parse_text(value: object) -> object:
        if parsed is not str and isinstance(value, parsed):
            return value
        if not isinstance(value, str):
            raise ValueError("is not text")  # noqa: TRY004 - pydantic collects ValueError only
        return parse(value)

    return parse_text


def listed(value: object) -> object:
    """A text as a list of one; others unchanged."""
    return [value] if isinstance(value, str) else value


Switch = Annotated[bool, BeforeValidator(values.parse_switch)]
Label = Annotated[str, BeforeValidator(values.parse_label), Field(min_length=1)]
Name = Annotated[str, AfterValidator(values.parse_name)]
Whole = Annotated[int, BeforeValidator(values.refuse_boolean)]
Number = Annotated[float, BeforeValidator(values.refuse_boolean), Field(allow_inf_nan=False)]
Guid = Annotated[str, AfterValidator(values.parse_guid)]
TenantGuids = Annotated[
    tuple[Annotated[str, AfterValidator(values.parse_tenant_id)], ...],
    BeforeValidator(listed),
    Field(min_length=1),
]
Names = Annotated[tuple[Name, ...], BeforeValidator(listed)]
Instant = Annotated[datetime, BeforeValidator(of_text(values.parse_instant, datetime))]
FilePath = Annotated[Path, BeforeValidator(of_text(values.parse_path, Path))]
FolderPath = Annotated[FilePath, FOLDER]
PeriodSecs = Annotated[int, BeforeValidator(of_text(values.parse_period_s))]
BaseUrl = Annotated[str, AfterValidator(parse_base_url)]
SecretText = Annotated[SecretStr, Field(min_length=1)]

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
