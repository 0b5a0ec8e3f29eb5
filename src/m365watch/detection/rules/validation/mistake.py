"""A mistake in a file of rules as it is told: where, of which rule, what, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from m365watch.common.plain import plain

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
