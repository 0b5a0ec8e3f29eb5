"""A configuration's text, JSON or YAML, read into plain values with nothing guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import yaml

from m365watch.common.file_access import why_closed, why_unread

Document = dict[str, object]

NETWORK_OF_ALL = ("globals", "network")
WEBHOOK = ("globals", "webhook")
NOTIFICATIONS = ("detections", "notifications")
"""Where those stand who are told of alerts."""
BOARD = ("board",)
BOARD_ENTRA = ("board", "entra")


def section_at(document: object, *path: str) -> Document:
    """The object at the path, itself and not a copy; an empty one where there is none."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def networks_in(document: Document) -> list[tuple[str, ...]]:
    """Where the document has, or may have, a section `network`."""
    return [NETWORK_OF_ALL, *(("inputs", name, "network") for name in section_at(document, "inputs"))]


def texts_at(section: Document, key: str) -> list[str]:
    """The texts below a key that takes one text or a list of them."""
    value = section.get(key)
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


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


_NO_ALIASES = "aliases (*name) are not read; write the value out, in quotes if it is text"
_NO_TAGS = "tags (!name) are not read; put text that starts with ! in quotes"


class _Loader(yaml.SafeLoader):
    """A reader of YAML that knows null, true, false and numbers, and no aliases."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML copies it per class

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node; an alias stops the reading."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML is untyped here
            raise yaml.MarkedYAMLError(problem=_NO_ALIASES, problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


_TAG = "tag:yaml.org,2002:"
_SCALARS: dict[str, tuple[str, list[str], Callable[[str], object]]] = {
    f"{_TAG}null": (r"~|null|Null|NULL|", [*"~nN", ""], lambda _: None),
    f"{_TAG}bool": (
        r"true|True|TRUE|false|False|FALSE",
        [*"tTfF"],
        lambda text: text.lower() == "true",
    ),
    f"{_TAG}int": (r"[-+]?(?:0|[1-9][0-9]{0,17})", [*"-+0123456789"], int),
    f"{_TAG}float": (
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+)",
        [*"-+.0123456789"],
        float,
    ),
}
"""Tag, what such a scalar looks like, its first characters, and how it is read."""

for _tag, (_pattern, _first, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


def parse_yaml(text: str) -> object:
    """The text's values; a mapping comes as `Pairs`.

    Raises:
        Unreadable: the text has a mistake of syntax, an alias or a tag.
    """
    with _telling_mistakes():
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else _read_node(node)


def compose_yaml(text: str) -> yaml.Node | None:
    """The text's nodes, each with the marks of where it stands; None for a text without a value.

    Raises:
        Unreadable: the text has a mistake of syntax or an alias.
    """
    with _telling_mistakes():
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
        return node


@contextmanager
def _telling_mistakes() -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_yaml_mistake(error)) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML itself stumbles over the number of a character that there is not: "\\U00110000".
        raise Unreadable("has a character that YAML does not allow") from None
    except RecursionError:
        raise Unreadable(NESTED_TOO_DEEPLY) from None


def _read_node(node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
        return Pairs((_read_key(key), _read_node(value)) for key, value in node.value)
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
        return [_read_node(child) for child in node.value]
    if isinstance(node, yaml.ScalarNode):
        return _read_scalar(node)
    raise refused_node(node, _NO_TAGS)


def _read_key(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    raise refused_node(node, "a key has to be plain text")


def _read_scalar(node: yaml.ScalarNode) -> object:
    text: str = node.value
    if node.tag == f"{_TAG}str":
        return text
    pattern, _, read = _SCALARS.get(node.tag, (r"(?!)", [], str))
    if re.fullmatch(pattern, text):
        return read(text)
    raise refused_node(node, _NO_TAGS)


def refused_node(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    """The mistake at the place where the node begins."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _without_quotation(quoted: re.Match[str]) -> str:
    """A mark of YAML's own, such as ']' or '<block end>', or dots for anything longer."""
    own = len(quoted[1]) < 2 or re.fullmatch(r"<(?:block|flow|stream|document)[ a-z]*>", quoted[1])
    return quoted[0] if own else "'...'"


def _yaml_mistake(error: yaml.MarkedYAMLError) -> str:
    # PyYAML quotes what it stumbled over, which may be a piece of a secret.
    problem = re.sub(r"'([^']*)'", _without_quotation, error.problem or "not valid YAML")
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem
