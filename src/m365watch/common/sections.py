"""A section of the configuration, which is a model whose values are the settings."""

# Annotations stay objects here (`Section` says why).

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator


class Mark:
    """Says more of a key than its type does."""


DESTINATION = Mark()
"""A key that decides which server a secret beside it reaches."""


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

    def told(self, **values: object) -> Self:
        """A copy that knows other values of a run, each a private attribute."""
        made = self.model_copy()
        for name, value in values.items():
            setattr(made, name, value)
        return made


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


def refuse_boolean(value: object) -> object:
    """The value unchanged; true and false are not numbers."""
    if isinstance(value, bool):
        raise ValueError("is not a number")  # noqa: TRY004 - pydantic collects ValueError, not TypeError
    return value


def parse_path(text: str) -> Path:
    """The path as written; a leading ~ is refused because no shell will expand it."""
    if not text.strip():
        raise ValueError("is empty")
    if text.startswith("~"):
        raise ValueError("starts with ~, which is not expanded here; write ${HOME}")
    return Path(text)


Number = Annotated[float, BeforeValidator(refuse_boolean), Field(allow_inf_nan=False)]
FilePath = Annotated[Path, BeforeValidator(of_text(parse_path, Path))]
SecretText = Annotated[SecretStr, Field(min_length=1)]
