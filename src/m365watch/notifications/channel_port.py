"""The port of notifications: whoever carries them to a target, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from m365watch.notifications.notification_database import Outgoing


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of what was sent."""

    refused: Mapping[int, str] = field(default_factory=dict)
    """Places of notifications that the target will never take, each with the reason."""
    position: str = ""
    """What the sender wants to be told when it is opened next."""


class Sender(Protocol):
    """Carries notifications to one target."""

    at_once_max: int
    """How many alerts it takes in one call."""

    async def open(self, *, last: int, position: str, newest: int) -> int:
        """Make ready, and say what the target has: `last`, or the number after it where it can tell.

        `last` is the number of the last call that is known to have ended, `newest` the highest ever given.
        Raises: RetryLater, NeedsOperator.
        """
        ...

    async def send(self, outgoing: Outgoing) -> Sent:
        """Return once the target has them.

        Raises: RetryLater: it may work later; Unreachable of these: nothing of it has left. NeedsOperator:
        the target refuses whatever comes, until somebody does something about it. Either way none counts.
        """
        ...

    async def look(self) -> str:
        """What was seen of the way to the target, with nothing sent. Raises: RetryLater, NeedsOperator."""
        ...

    async def close(self) -> None:
        """Leave in order."""
        ...
