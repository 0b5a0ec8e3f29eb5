"""Steps in a row that differ in whom they are for alone: a spray has fifty of a kind, which nobody reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from m365watch.response.steps.step import Step


def runs(steps: Iterable[Step]) -> Iterator[tuple[int, list[Step]]]:
    """The steps in their order, those that are alike together, each time with the number of the first."""
    number = 1
    for _, alike in groupby(steps, key=lambda one: (one.word, one.way, one.notes)):
        run = list(alike)
        yield number, run
        number += len(run)


def others_of(run: Sequence[Step]) -> list[str]:
    """Whom the steps after the first are for: what of their titles is not the same in all."""
    same = set(run[0].title.split()).intersection(*(one.title.split() for one in run))
    named = (" ".join(word for word in one.title.split() if word not in same) for one in run[1:])
    return [name or one.title for name, one in zip(named, run[1:], strict=True)]


def spans(numbers: Iterable[int]) -> str:
    """The numbers, which ascend, in words: `1, 3 to 5, 7`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    told = (f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in found)
    return ", ".join(told)
