"""A mistake in a document of rules: the file, the line, the keys that lead to it, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from m365watch.common.text import plain

if TYPE_CHECKING:
    import yaml


CHARS_MAX = 1_200
RULE_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something in a file of rules that has to be mended, in one line."""

    path: str
    rule: str
    """The rule's title; empty where the file cannot be read at all."""
    text: str
    line: int = 0
    """Where the key at fault stands, or else its rule begins; 0 where nothing can be said."""
    is_lesser: bool = False
    """Whether its rules stay in force all the same."""

    @property
    def follows(self) -> str:
        """What becomes of the rule, or of those of the file."""
        if self.is_lesser:
            return "its rules stay in force"
        return "the rule is left out" if self.rule else "its rules are left out"

    def __str__(self) -> str:
        """rules/mine.yml:14 (A title): detection: ..."""
        title = f" ({self.rule})" if self.rule else ""
        line = f":{self.line}" if self.line else ""
        return f"{self.path}{line}{title}: {self.text}"


def mistake_at(path: str, rule: str, text: str, *, line: int = 0, is_lesser: bool = False) -> Mistake:
    """The mistake in one line, whatever stood in the file."""
    said = " ".join(plain(text).split())
    return Mistake(path, plain(rule[:RULE_CHARS_MAX]), said[:CHARS_MAX], line, is_lesser)


def in_order(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """As one reads: file by file, each from its beginning to its end."""
    return sorted(dict.fromkeys(mistakes), key=lambda one: (one.path, one.line))


Where = tuple[str | int, ...]
"""Keys of maps, and places in lists, that lead to a value."""


class Fault(NamedTuple):
    """What is wrong at one place, and what to do."""

    where: Where
    text: str

    def __str__(self) -> str:
        """level: is none of ...; without a place, the text alone."""
        return f"{'.'.join(map(str, self.where))}: {self.text}" if self.where else self.text


class Places:
    """On which lines of a file the keys of one of its documents stand."""

    def __init__(self, root: yaml.Node, *, line: int) -> None:
        """`line` is that on which the document begins."""
        self._root = root
        self._line = line

    def line_of(self, where: Where) -> int:
        """The line of the key, or of the last one on the way to it that is there."""
        node, line = self._root, self._line
        for part in where:
            found = _step(node, part)
            if found is None:
                break
            line, node = found
        return line


def _step(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    """The line of a key, or of a part of a list, and what stands there."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == str(part):
                return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        one = node.value[part]
        return one.start_mark.line + 1, one
    return None


MISREAD = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError)
"""All that says that a rule cannot be understood; SigmaError and our own reasons are ValueErrors."""
_OF_ANOTHER_KIND = (TypeError, AttributeError, LookupError, ArithmeticError)
_IN_WORDS = {
    re.compile(
        r"Modifier \w+ incompatible to value type of .*", re.DOTALL
    ): "its modifier takes no such value",
    re.compile(
        r"Unsupported type: .*", re.DOTALL
    ): "takes a text, a number, true, false, null or a list of these",
    re.compile(r"Detection '(.*)' not defined in detections", re.DOTALL): r"there is no selection \1",
    re.compile(r"Regular expression .* is invalid: (the regular expression)", re.DOTALL): r"\1",
    re.compile(r"Expected .*, found (.*?)\s*\(at char .*", re.DOTALL): r"is not understood at \1",
}
"""What stands for pySigma's words about its own classes and grammar."""


def reason_of(error: Exception) -> str:
    """Why a rule, or its file, cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, _OF_ANOTHER_KIND):
        return "has a value of the wrong type, such as a number where a text belongs"
    said = str(error.args[0]) if error.args else type(error).__name__
    for pattern, words in _IN_WORDS.items():
        said = pattern.sub(words, said)
    return said.removesuffix(".")
