"""Mailboxes counted apart: one that a record names without its domain is no second one.

Set-Mailbox may say `ada` where the rule of the same mailbox says ada@contoso.example; ada@contoso.example and
ada@fabrikam.example are two. So a bare name counts where no address has it before its @.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from m365watch.detection.alerts.alert import Match
from m365watch.detection.rules.rule import Correlation

FIELD = "m365.mailbox_alias"


def counts_mailboxes(correlation: Correlation) -> bool:
    """Whether what the correlation counts are mailboxes."""
    named = (
        one for name in correlation.fields for one in (name, *correlation.aliases.get(name, {}).values())
    )
    return FIELD in named


def mailboxes_apart(names: Iterable[str]) -> list[str]:
    """The names, each mailbox once."""
    every = list(dict.fromkeys(names))
    bare = {name.partition("@")[0] for name in every if "@" in name}
    return [name for name in every if "@" in name or name not in bare]


@dataclass(slots=True)
class DistinctMailboxes:
    """How many mailboxes the matches of a window are about."""

    counts: Counter[str] = field(default_factory=Counter)
    """Matches by name."""
    addresses: Counter[str] = field(default_factory=Counter)
    """How many addresses have a name before their @."""

    def add(self, match: Match) -> None:
        """A match comes in."""
        name = match.counted
        if name and not self.counts[name]:
            self._note(name, 1)
        if name:
            self.counts[name] += 1

    def drop(self, match: Match) -> None:
        """A match goes."""
        name = match.counted
        if not name:
            return
        self.counts[name] -= 1
        if not self.counts[name]:
            del self.counts[name]
            self._note(name, -1)

    def _note(self, name: str, change: int) -> None:
        bare, at, _ = name.partition("@")
        if at:
            self.addresses[bare] += change
            if not self.addresses[bare]:
                del self.addresses[bare]

    def value(self) -> float:
        """Mailboxes."""
        return len(self.counts) - len(self.counts.keys() & self.addresses.keys())
