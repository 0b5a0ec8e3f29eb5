"""The user's file of exceptions, read: every mistake becomes a line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m365watch.common.file_access import NO_FILE, read_small_file
from m365watch.detection.alerts.alert import clean_text
from m365watch.detection.alerts.alert_exceptions import AlertException, Exceptions

FILE_BYTES_MAX = 4 * 1_048_576
EXCEPTIONS_MAX = 10_000
_KEY = "exceptions"


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rule: str = Field(min_length=1)
    reason: str = Field(min_length=1, max_length=500)
    entity: dict[str, str] = Field(default_factory=dict)
    tenant: str = ""
    until: date | None = None


def _value_of(one: _Written, place: str) -> AlertException:
    return AlertException(one.rule, one.reason, one.entity, one.tenant, one.until, place)


def read_exceptions(path: Path) -> tuple[Exceptions, list[str]]:
    """The exceptions of a file, and a line for each mistake in it; those with a mistake are left out."""
    import yaml

    from m365watch.detection.rules.yaml_documents import load_document, reason_of

    try:
        content, _ = read_small_file(path, bytes_max=FILE_BYTES_MAX)
        if len(content) > FILE_BYTES_MAX:
            return Exceptions(), [f"{path}: is larger than {FILE_BYTES_MAX} bytes"]
        document, root = load_document(content)
    except FileNotFoundError:
        return Exceptions(), [f"{path}: {NO_FILE}"]
    except yaml.YAMLError as error:
        return Exceptions(), [f"{path}: is no YAML: {reason_of(error, content)}"]
    except ValueError as error:
        return Exceptions(), [f"{path}: {error}"]
    except RecursionError:
        return Exceptions(), [f"{path}: is nested too deeply"]
    found = document.get(_KEY) if isinstance(document, dict) else document
    unknown = [one for one in document if one != _KEY] if isinstance(document, dict) else []
    mistakes = [
        f"{path}: {clean_text(str(one))}: is no key that is known here; there is `{_KEY}`" for one in unknown
    ]
    if document is None or found is None:
        return Exceptions(), mistakes
    if not isinstance(found, list):
        return Exceptions(), [*mistakes, f"{path}: {_KEY}: is no list"]
    parsed, more = _parse(found, str(path), _lines_of(root))
    return parsed, [*mistakes, *more]


def _lines_of(root: Any) -> list[int]:
    """The line on which each exception begins; none where they stand in an unusual way."""
    import yaml

    node = root
    if isinstance(node, yaml.MappingNode):
        node = next((value for key, value in node.value if key.value == _KEY), None)
    return [one.start_mark.line + 1 for one in node.value] if isinstance(node, yaml.SequenceNode) else []


def _parse(found: Sequence[object], path: str, lines: Sequence[int]) -> tuple[Exceptions, list[str]]:
    kept: list[AlertException] = []
    mistakes: list[str] = []
    for number, one in enumerate(found[:EXCEPTIONS_MAX]):
        place = f"{path}:{lines[number]}" if number < len(lines) else path
        try:
            kept.append(_value_of(_Written.model_validate(one), place))
        except ValidationError as error:
            mistakes += [
                f"{place}: {_path_of(number, mistake['loc'])}: {_words(mistake['type'], mistake['msg'])}"
                for mistake in error.errors(include_url=False)
            ]
    if len(found) > EXCEPTIONS_MAX:
        mistakes.append(f"{path}: has more than {EXCEPTIONS_MAX} exceptions; the rest is left out")
    return Exceptions(tuple(kept)), mistakes


def _path_of(number: int, keys: Sequence[int | str]) -> str:
    """Where the mistake is; keys may be anything."""
    return ".".join([_KEY, str(number), *(clean_text(str(one)) for one in keys)])


_IN_WORDS = {
    "dict_type": "is no map of keys and values",
    "extra_forbidden": "is no key that is known here",
    "missing": "is missing",
    "model_type": "is no map of keys and values",
    "string_too_long": "is longer than 500 characters",
    "string_too_short": "is empty",
    "string_type": "is no text",
}
"""In place of words about Python's kinds of values."""


def _words(kind: str, text: str) -> str:
    if kind.startswith("date"):
        return "is no day such as 2027-06-30"
    if kind in _IN_WORDS:
        return _IN_WORDS[kind]
    return f"{text[:1].lower()}{text[1:]}"
