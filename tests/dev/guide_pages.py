"""A guide as a test reads it: its blocks and the clicks between them, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "guides"
_PARTS = re.compile(
    r"^(?:> \*\*Not run in our tests\*\*: (?P<reason>[^\n]+)\.\n\n)?"
    r"```(?P<kind>\w+)\n(?P<text>.*?)^```$"
    r"|^<!-- (?:portal: (?P<act>.+?)|another machine) -->$",
    re.MULTILINE | re.DOTALL,
)
_PROTECTED = re.compile(r"\b(?:AADSTS|AF)\d+\b|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"\b[0-9A-F]{40,64}\b|\d[\d,.:]*(?<![,.:])")


@dataclass(frozen=True, slots=True)
class Fence:
    """One fenced block."""

    kind: str
    text: str
    reason: str
    """Why it is not run, as the guide says; "" where it is."""
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


def read_guide(name: str) -> str:
    """The text of a guide."""
    return (FOLDER / name).read_text(encoding="utf-8")


def parts_of(page: str) -> Iterator[Fence | Click]:
    """The blocks and clicks of a page, in order."""
    for found in _PARTS.finditer(page):
        if not found["kind"]:
            yield Click(found["act"] or "")
        else:
            line = page.count("\n", 0, found.start()) + 1
            yield Fence(found["kind"], found["text"], found["reason"] or "", line)


def differing_line(shown: str, printed: str) -> str | None:
    """The first line of `shown` that `printed` does not have in its place; None where it has all.

    `...` stands for any lines; numbers and thumbprints, but for ids and codes of errors, may be others.
    """
    rest = [_comparable(line) for line in printed.splitlines()]
    skips = False
    for line in shown.splitlines():
        if line.strip() == "...":
            skips = True
            continue
        wanted = _comparable(line)
        if wanted not in (rest if skips else rest[:1]):
            return line
        del rest[: rest.index(wanted) + 1]
        skips = False
    return None if skips or not rest else "(the end)"


def _comparable(line: str) -> str:
    """The line without its numbers and the width of its gaps."""
    kept = iter(_PROTECTED.findall(line))
    parts = [_NUMBER.sub("#", part) for part in _PROTECTED.split(line)]
    joined = parts[0] + "".join(next(kept) + part for part in parts[1:])
    return " ".join(joined.split())
