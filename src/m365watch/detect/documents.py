"""The documents of a file of rules, as YAML has them, with what YAML itself would let pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it: 129 rules take 0.15 s in place of 0.39."""


UNFOLDED_MAX = 100_000
"""Values that aliases may add to those of a file: a few lines of them could unfold to gigabytes."""


class Document(NamedTuple):
    """One that says anything."""

    line: int
    """On which it begins."""
    content: Any
    twice: str
    """Where a key is written a second time, and which: one of the two would be lost. Empty where none is."""


def load_documents(text: bytes) -> Iterator[Document]:
    """Each document of a file. Raises: yaml.YAMLError, ValueError, RecursionError."""
    loader: Any = _LOADER(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            _refuse_unfolding(node)
            content = loader.construct_document(node)
            if content is not None:
                yield Document(node.start_mark.line + 1, content, _find_twice(node))
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
                raise _refused(node, f"aliases (*name) unfold to more than {UNFOLDED_MAX:,} values here")
        elif key in under_way:
            raise _refused(node, "an alias (*name) stands inside of what it names")
        elif key not in sizes:
            under_way.add(key)
            left.append((node, True))
            left += [(one, False) for one in _parts_of(node)]


def _parts_of(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _refused(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _find_twice(root: yaml.Node) -> str:
    """The first key that stands twice in the same map, as a line; empty where there is none."""
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
                    return (
                        f"line {line}: the key {key.value} stands in line {first} already; keep one of them"
                    )
                left.append(value)
        elif isinstance(node, yaml.SequenceNode):
            left += node.value
    return ""


def reason_of(error: yaml.YAMLError) -> str:
    """Where and why a file is no YAML."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    said = " ".join(str(problem).split())
    return f"line {mark.line + 1}: {said}" if mark is not None else said
