"""One target hunted for a while: what is tried, what is kept for the next time, and what was found."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random

from fuzz_contract import Target
from fuzz_mutations import Mutator
from fuzz_trials import Finding, Inputs, Tried, try_inputs

KEPT_MAX = 400
"""Inputs of a target that are kept because each ran something new."""
FINDINGS_MAX = 12
"""Different ones of a target; then it is left, since they have to be mended first."""
_ALIKE_MAX = 60
"""Inputs that find again what was found; then the target is left, too."""
_SMALLER_TRIES = 160
_SMALLER_S = 15.0
"""How long an input is made smaller; what takes its whole time at each try stays large."""
_ROUND_S = 20.0
MADE_MIN = 10
"""Hostile inputs that every target gets, also where making it ready takes its whole time."""
_WATCHED_ONCE_IN = 24
_WATCHED_BYTES_MAX = 8_192
"""To see which lines an input runs makes it some 30 times slower."""


@dataclass
class Hunt:
    """What was tried of a target, and found."""

    target: Target
    inputs: int = 0
    kept: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)
    alike: int = 0
    took_s: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether going on would only find the same."""
        return len(self.findings) >= FINDINGS_MAX or self.alike >= _ALIKE_MAX


@dataclass(frozen=True)
class Bounds:
    """How long one target is hunted; whichever comes first."""

    seconds: float | None = None
    inputs: int | None = None


def hunt(
    target: Target, *, seed: int, bounds: Bounds, corpus: Path | None, on_round: Callable[[Hunt], None]
) -> Hunt:
    """Try inputs of the target; `corpus` keeps what ran something new, and is begun with."""
    found = Hunt(target)
    begun_s = time.monotonic()
    deadline_s = None if bounds.seconds is None else begun_s + bounds.seconds
    kept = _kept_in(corpus)
    round_number = 0
    while not found.is_over and not (round_number and _is_due(deadline_s)):
        left = None if bounds.inputs is None else bounds.inputs - found.inputs
        if left is not None and left <= 0:
            break
        source = Source(target, kept, f"{seed}/{target.name}/{round_number}", count=left,
            until_s=deadline_s, watches=corpus is not None)  # fmt: skip
        tried = try_inputs(target, source.inputs, on_kept=lambda given: _keep(given, corpus))
        found.inputs += tried.inputs
        if tried.finding is not None:
            _take(found, target, tried.finding)
        kept = _kept_in(corpus)
        found.kept = len(kept)
        found.took_s = time.monotonic() - begun_s
        on_round(found)
        round_number += 1
    found.took_s = time.monotonic() - begun_s
    return found


def _is_due(deadline_s: float | None) -> bool:
    return deadline_s is not None and time.monotonic() >= deadline_s


def _take(found: Hunt, target: Target, finding: Finding) -> None:
    if finding.what in found.findings:
        found.alike += 1
    else:
        found.findings[finding.what] = make_smaller(target, finding)


@dataclass(frozen=True)
class Source:
    """The inputs of one round; the same seed and the same kept ones give the same inputs."""

    target: Target
    kept: list[bytes]
    seed: str
    count: int | None
    until_s: float | None
    watches: bool

    def inputs(self) -> Inputs:
        """The seeds as they are, what was kept, and then what is made of them."""
        random = Random(self.seed)
        target = self.target
        mutator = Mutator(random, words=target.words, bytes_max=target.input_bytes_max)
        pool = [given[: target.input_bytes_max] for given in target.seeds()]
        first = [*pool, *self.kept] if self.seed.endswith("/0") else pool
        pool += self.kept
        for given in self._in_time(first, self._made(pool, random, mutator)):
            is_watched = not random.randrange(_WATCHED_ONCE_IN) and len(given) < _WATCHED_BYTES_MAX
            yield given, is_watched and self.watches

    def _in_time(self, first: list[bytes], made: Iterator[bytes]) -> Iterator[bytes]:
        """The first and then the made ones, until there are enough or time is over; a few made ones even then."""
        ends_s = math.inf if self.until_s is None else min(time.monotonic() + _ROUND_S, self.until_s)
        # A few of the kept ones alone, lest a short hunt never come to anything new.
        some = first if self.count is None else first[: max(self.count // 2, 1)]
        given_first = 0
        for given in some:
            if time.monotonic() >= ends_s:
                break
            yield given
            given_first += 1
        for number, given in enumerate(islice(made, self.count and self.count - given_first)):
            if number >= MADE_MIN and time.monotonic() >= ends_s:
                return
            yield given

    def _made(self, pool: list[bytes], random: Random, mutator: Mutator) -> Iterator[bytes]:
        grow = self.target.grow
        while True:
            if grow is not None and random.random() < 0.4:
                given = grow(random)[: self.target.input_bytes_max]
                yield given if random.random() < 0.6 else mutator.mutate(given, pool)
            else:
                yield mutator.mutate(random.choice(pool), pool)


def make_smaller(target: Target, finding: Finding) -> Finding:
    """The finding with as little of its input as still finds it."""
    given, size = finding.given, max(len(finding.given) // 2, 1)
    tries, end_s = 0, time.monotonic() + _SMALLER_S
    while size and len(given) > 1:
        start = 0
        while start < len(given):
            if tries >= _SMALLER_TRIES or time.monotonic() >= end_s:
                return finding
            shorter = given[:start] + given[start + size :]
            tries += 1
            again = replay(target, shorter).finding
            if again is not None and again.what == finding.what:
                given, finding = shorter, again
            else:
                start += size
        size //= 2
    return finding


def replay(target: Target, given: bytes) -> Tried:
    """What comes of this input alone."""
    return try_inputs(target, lambda: [(given, False)], on_kept=lambda _: None)


def _keep(given: bytes, corpus: Path | None) -> None:
    if corpus is not None and len(list(corpus.iterdir())) < KEPT_MAX:
        (corpus / hashlib.sha256(given).hexdigest()[:24]).write_bytes(given)


def _kept_in(corpus: Path | None) -> list[bytes]:
    return [] if corpus is None else [path.read_bytes() for path in sorted(corpus.iterdir())]
