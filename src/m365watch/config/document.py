"""A configuration's text, JSON or YAML, read into plain values with nothing guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

from m365watch.common.file_access import why_closed, why_unread

TEXT_BYTES_MAX = 1_048_576
"""The largest configuration that is read: about 2,000 tenants."""

HOW_TO_BEGIN = "let `m365watch init` write a first one"
_NAME_ANOTHER = "name another file with --config"

NESTED_TOO_DEEPLY = "is nested too deeply to be a configuration"


class Unreadable(ValueError):
    """The text is neither JSON nor YAML; says where and what would be right."""

    def __init__(self, what: str, *, fix: str | None = None) -> None:
        """`fix` is what to do, where correcting the text is not it."""
        super().__init__(what)
        self.fix = fix


class Pairs(list[tuple[str, object]]):
    """An object's keys and values as they stand in the text, repeated keys included."""


def plain_values(value: object) -> object:
    """A document as JSON can write it: of keys that are there twice the last."""
    if isinstance(value, Pairs):
        return {key: plain_values(child) for key, child in value}
    return [plain_values(one) for one in value] if isinstance(value, list) else value


def read_text(path: Path) -> str:
    """The text of the file.

    Raises:
        Unreadable: there is no such file, it cannot be read, or it is no text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(TEXT_BYTES_MAX + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8 text; save it as UTF-8") from None
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable("there is no such file", fix=f"{_NAME_ANOTHER}, or {HOW_TO_BEGIN}") from None
    except IsADirectoryError:
        raise Unreadable("is a directory", fix="name the file in it with --config") from None
    except PermissionError:
        if closed := why_closed(path):
            raise Unreadable(
                closed, fix="run as the user whose folder it is, as with: sudo -u NAME"
            ) from None
        raise Unreadable(why_unread(path) or "this user may not read it", fix="run as its owner") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or 'unknown'}", fix=_NAME_ANOTHER) from None
    except ValueError:
        raise Unreadable("cannot be read: not a path", fix=_NAME_ANOTHER) from None
    if len(content) > TEXT_BYTES_MAX:
        raise Unreadable(f"is larger than {TEXT_BYTES_MAX:,} bytes, which no configuration needs")
    return text


def parse_document(text: str, *, suffix: str) -> object:
    """The text's values; an object comes as `Pairs`, so that repeated keys can be refused.

    The content decides, not the name: what starts with a bracket is JSON. Only a `suffix` of .yaml
    or .yml lets such a text pass as YAML when it is not JSON.

    Raises:
        Unreadable: the text has a mistake of syntax.
    """
    if text.lstrip().startswith(("{", "[")):
        try:
            return _parse_json(text)
        except Unreadable:
            if suffix not in {".yaml", ".yml"}:
                raise
    # Importing what reads YAML takes 10 ms, which a file of JSON need not wait for.
    from m365watch.config.yaml_text import parse_yaml

    return parse_yaml(text)


def _parse_json(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=Pairs, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Unreadable(_json_mistake(text, error)) from None
    except RecursionError:
        raise Unreadable(NESTED_TOO_DEEPLY) from None
    except Unreadable:
        raise
    except ValueError:
        raise Unreadable("has a number with too many digits") from None


def _refuse_constant(name: str) -> NoReturn:
    raise Unreadable(f"has the number {name}, which JSON does not know")


def _json_mistake(text: str, error: json.JSONDecodeError) -> str:
    comma = _trailing_comma(text, error.pos)
    if comma is not None:
        place = _place(text, comma)
        return f"{place}: a comma before a closing bracket; JSON allows none there, remove it"
    what = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
    return f"{_place(text, error.pos)}: not valid JSON: {what}"


def _trailing_comma(text: str, position: int) -> int | None:
    """Where a comma stands before a closing bracket around `position`; Python versions point to either."""
    before = text[:position].rstrip()
    if text[position : position + 1] in {"}", "]"} and before.endswith(","):
        return len(before) - 1
    after = text[position + 1 :].lstrip()
    if text[position : position + 1] == "," and after.startswith(("}", "]")):
        return position
    return None


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"line {line}, column {column}"
