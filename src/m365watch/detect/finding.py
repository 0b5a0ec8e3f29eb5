"""Who looks for matches in records: the engine's own process, or another one (`aside.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from m365watch.detect.alert import Match
from m365watch.detect.drawing import Told
from m365watch.detect.knowledge import Knowledge
from m365watch.detect.matching import Matcher, kind_of
from m365watch.detect.purposes import list_sought
from m365watch.detect.rule import Rule

if TYPE_CHECKING:
    from m365watch.detect.engine import Portion


class Found(NamedTuple):
    """What came of some records."""

    matches: list[Match]
    looked_at: int
    """Records that some rule could have matched."""


class Finder(Protocol):
    """Finds matches, batch by batch."""

    @property
    def trouble(self) -> str:
        """Why it works less quickly than it should, until the next start; empty where it does not."""
        ...

    def find(self, portions: Sequence[Portion]) -> Iterator[Found]:
        """The matches of a batch's records, some at a time; the batch ends with one of the next two."""
        ...

    def settle(self) -> None:
        """The batch is durable: what was seen in it need not be found again."""
        ...

    def take_back(self) -> None:
        """Nothing of the batch counts."""
        ...

    def rest(self) -> None:
        """A minute has passed; what is not needed in quiet times can be let go of."""
        ...

    def close(self) -> None:
        """Nothing is looked for any more."""
        ...


MakesFinder = Callable[[Sequence[Rule], Knowledge], Finder]


class OwnFinder:
    """Finds matches here and now."""

    trouble = ""

    def __init__(self, rules: Iterable[Rule], knowledge: Knowledge) -> None:
        """`rules` with all that correlations join."""
        self.sought = list_sought(rules, knowledge)
        self.matcher = Matcher(self.sought, knowledge=knowledge)

    def find(self, portions: Sequence[Portion]) -> Iterator[Found]:
        """All of a batch at once."""
        matches: list[Match] = []
        looked_at = 0
        for portion in portions:
            told = Told(portion.tenant, portion.received_at)
            found, looked = self.matcher.match_all(portion.records, map(kind_of, portion.headers), told)
            matches += found
            looked_at += looked
        self.matcher.trim()
        yield Found(matches, looked_at)

    def settle(self) -> None:
        """What was seen is known."""
        self.matcher.sightings.settle()

    def take_back(self) -> None:
        """What was seen is not known."""
        self.matcher.sightings.take_back()

    def rest(self) -> None:
        """Nothing to let go of: what is remembered is bounded."""

    def close(self) -> None:
        """Nothing is held."""
