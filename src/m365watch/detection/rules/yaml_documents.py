"""The documents of a file of rules, as YAML has them, with what YAML itself would let pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import yaml

from m365watch.config.document import refused_node
from m365watch.detection.rules.diagnostics import Places


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml where PyYAML was built with it: 129 rules take 0.15 s in place of 0.39.

    A date stays the text that it is: records have none but texts, and an impossible one is no YAML to others.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, Any]]]] = {
        first: [(tag, shape) for tag, shape in every if tag != "tag:yaml.org,2002:timestamp"]
        for first, every in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


UNFOLDED_MAX = 100_000
"""Values that aliases may add to those of a file: a few lines of them could unfold to gigabytes."""


class Document(NamedTuple):
    """One that says anything."""

    line: int
    """On which it begins."""
    content: Any
    twice: tuple[int, str]
    """The line of a key that is written a second time, and what is told; 0 and empty where none is."""
    places: Places


def load_documents(text: bytes) -> Iterator[Document]:
    """Each document of a file. Raises: yaml.YAMLError, ValueError, RecursionError."""
    loader: Any = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            _refuse_unfolding(node)
            content = loader.construct_document(node)
            if content is not None:
                line = node.start_mark.line + 1
                yield Document(line, content, _find_twice(node), Places(node, line=line))
    finally:
        loader.dispose()


def load_document(text: bytes) -> tuple[Any, yaml.Node | None]:
    """What a file says that has one document, and where in it; None twice where it says nothing.

    Raises: yaml.YAMLError, ValueError, RecursionError.
    """
    # PyYAML's own parser, slower, knows the very line of an end that comes too soon.
    loader: Any = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        _refuse_unfolding(node)
        return loader.construct_document(node), node
    except OverflowError:
        raise ValueError("names a sign (\\U...) that there is not") from None
    finally:
        loader.dispose()


def _refuse_unfolding(root: yaml.Node) -> None:
    """Raise yaml.MarkedYAMLError where aliases name what they stand in, or more than anybody means."""
    sizes = dict[int, int]()
    under_way = set[int]()
    left = [(root, False)]
    while left:
        node, is_counted = left.pop()
        key = id(node)
        if is_counted:
            under_way.discard(key)
            sizes[key] = 1 + sum(sizes[id(one)] for one in _parts_of(node))
            if sizes[key] > len(sizes) + UNFOLDED_MAX:
                raise refused_node(node, f"aliases (*name) unfold to more than {UNFOLDED_MAX:,} values here")
        elif key in under_way:
            raise refused_node(node, "an alias (*name) stands inside of what it names")
        elif key not in sizes:
            under_way.add(key)
            left.append((node, True))
            for one in _parts_of(node):
                if isinstance(one, yaml.ScalarNode):
                    sizes[id(one)] = 1  # most are, and nothing stands inside of them
                else:
                    left.append((one, False))


def _parts_of(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _find_twice(root: yaml.Node) -> tuple[int, str]:
    """The line of the first key that stands twice in the same map, and what is told; 0 where none does."""
    left, seen = [root], set[int]()
    while left:
        node = left.pop()
        # What an alias names is looked at once.
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and keys.setdefault(key.value, line) != line:
                    first = keys[key.value]
                    return line, f"the key {key.value} stands in line {first} already; keep one of them"
                left.append(value)
        elif isinstance(node, yaml.SequenceNode):
            left += node.value
    return 0, ""


def mistake_of(error: yaml.YAMLError, text: bytes) -> tuple[int, str]:
    """The line on which a file with that text is no YAML, 0 where nobody knows, and why."""
    if isinstance(error, yaml.reader.ReaderError):
        sign = error.character[0] if isinstance(error.character, bytes) else error.character
        is_read = "characters are not allowed" in error.reason
        what = "a control character" if is_read else "a byte that is no UTF-8: save the file as UTF-8"
        shown = f" ({sign:#04x})" if sign >= 0 else ""
        return text.count(b"\n", 0, error.position) + 1, what + shown
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return (mark.line + 1 if mark is not None else 0), " ".join(str(problem).split())


def reason_of(error: yaml.YAMLError, text: bytes) -> str:
    """Where and why a file with that text is no YAML."""
    line, said = mistake_of(error, text)
    return f"line {line}: {said}" if line else said
