"""A section whose keys depend on its `type`: only that of the given type is built and read."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from m365watch.config.kinds import Section


class ByType:
    """Builds and reads the section of the given type alone; a union would build those of all types."""

    def __init__(self, sections: Mapping[object, type[Section]]) -> None:
        """`sections` by the values of `type`."""
        self._sections = sections

    def __get_pydantic_core_schema__(self, _source: object, _build: GetCoreSchemaHandler) -> CoreSchema:
        """What pydantic asks for."""
        return core_schema.no_info_plain_validator_function(self._read)

    def _read(self, given: object) -> Section:
        kind = given.get("type") if isinstance(given, dict) else None
        section = self._sections.get(kind) if isinstance(kind, str) else None
        if section is None:
            # The reader of mistakes looks at `type` itself.
            raise PydanticCustomError("union_tag_invalid", "no such type")
        try:
            return section.model_validate(given)
        except ValidationError as error:
            raise _marked(error, mark=f"|{section.__name__}") from None


def _marked(error: ValidationError, *, mark: str) -> ValidationError:
    """`error` with the schema's mark of a variant in front of its places."""
    found = [
        InitErrorDetails(
            type=one["type"], loc=(mark, *one["loc"]), input=one["input"], ctx=one.get("ctx", {})
        )
        for one in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(error.title, found, hide_input=True)
