"""A configuration's text in YAML.

It is read as YAML 1.2 means it: `no` and `on` are text, a date stays text, and nothing in the
file can name a Python type. Aliases are refused, because a few lines of them unfold to
gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import yaml

from m365watch.config.document import NESTED_TOO_DEEPLY, Pairs, Unreadable

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
