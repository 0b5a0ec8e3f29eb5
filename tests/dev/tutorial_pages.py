"""A tutorial as a test reads it: its blocks and the clicks between them, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
_PARTS = re.compile(
    r"^(?:> \*\*Not run in our tests\*\*: (?P<reason>[^\n]+)\.\n\n)?"
    r"```(?P<kind>\w+)\n(?P<text>.*?)^```$"
    r"|^<!-- (?:portal: (?P<act>.+?)|another machine) -->$",
    re.MULTILINE | re.DOTALL,
)
_PROTECTED = re.compile(r"\b(?:AADSTS|AF)\d+\b|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(
    r"(?<![\w-])(?:[\w.+-]+(?:@|%40)[\w.-]*\w|[0-9a-f]{32}|[0-9a-f]{8}|\d{1,3}(?:\.\d{1,3}){3})(?![\w-])"
)
"""Somebody's, an alert's, an address."""
_NUMBER = re.compile(r"\b[0-9A-F]{40,64}\b|\d[\d,.:]*(?<![,.:])")

_CODE = re.compile(r"#[\w-]{43}(?![\w-])")
"""What a link that opens the board ends with: another one each time."""
_COUNTED = re.compile(r"(# [a-z]+)s\b")


@dataclass(frozen=True, slots=True)
class Fence:
    """One fenced block."""

    kind: str
    text: str
    reason: str
    """Why it is not run, as the tutorial says; "" where it is."""
    line: int
    """Where in the page it begins."""

    @property
    def title(self) -> str:
        """What the first line says, where that is a comment."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("# ") if first.startswith("# ") else ""


@dataclass(frozen=True, slots=True)
class Click:
    """What an administrator does in the portal at this place of the page."""

    act: str
    """"" for going to another machine."""


def read_tutorial(name: str) -> str:
    """The text of a tutorial."""
    return (FOLDER / name).read_text(encoding="utf-8")


def parts_of(page: str) -> Iterator[Fence | Click]:
    """The blocks and clicks of a page, in order."""
    for found in _PARTS.finditer(page):
        if not found["kind"]:
            yield Click(found["act"] or "")
        else:
            line = page.count("\n", 0, found.start()) + 1
            yield Fence(found["kind"], found["text"], found["reason"] or "", line)


class Names:
    """What people, addresses and alerts that a page names are called here: on another day they are others.

    The first line that has a name of the page tells what it is here; from then on that is meant by it.
    """

    def __init__(self) -> None:
        """No name has been met yet."""
        self._here: dict[str, str] = {}

    def here(self, text: str) -> str:
        """The page's text with each name that is known as it is here."""
        return _NAME.sub(lambda found: self._here.get(found[0], found[0]), text)

    def fits(self, shown: str, printed: str) -> bool:
        """Whether the lines are the same but for names not met before; these are known then."""
        named, found = _NAME.findall(shown), _NAME.findall(printed)
        if len(named) != len(found) or _comparable(_NAME.sub("name", shown)) != _comparable(
            _NAME.sub("name", printed)
        ):
            return False
        if any(self._here.get(one, other) != other for one, other in zip(named, found, strict=True)):
            return False
        self._here |= zip(named, found, strict=True)
        return True


def differing_line(shown: str, printed: str, names: Names | None = None) -> str | None:
    """The first line of `shown` that `printed` does not have in its place; None where it has all.

    `...` stands for any lines; numbers and thumbprints, but for ids and codes of errors, may be others. With
    `names` people, addresses and alerts may be others, too, each the same at every place.
    """

    def fits(line: str, other: str) -> bool:
        return names.fits(line, other) if names else _comparable(line) == _comparable(other)

    shown, printed = (_CODE.sub("#code", text) for text in (shown, printed))
    rest = printed.splitlines()
    skips = False
    for line in shown.splitlines():
        if line.strip() == "...":
            skips = True
            continue
        place = next((at for at, one in enumerate(rest if skips else rest[:1]) if fits(line, one)), None)
        if place is None:
            return line
        del rest[: place + 1]
        skips = False
    return None if skips or not rest else "(the end)"


def _comparable(line: str) -> str:
    """The line without its numbers, the width of its gaps, and whether of what is counted there is one."""
    kept = iter(_PROTECTED.findall(line))
    parts = [_NUMBER.sub("#", part) for part in _PROTECTED.split(line)]
    joined = parts[0] + "".join(next(kept) + part for part in parts[1:])
    return _COUNTED.sub(r"\1", " ".join(joined.split()))
