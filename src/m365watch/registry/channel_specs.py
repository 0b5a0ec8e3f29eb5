"""What the collector knows of each kind of channel; `notifications/channels/<kind>/spec.py` says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from m365watch.common.clock import Clock, Random
from m365watch.http.client import Session
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.registry.kinds import Registry
from m365watch.registry.output_specs import Model, OutputSettings
from m365watch.registry.outputs import Output


class Typed(Protocol):
    """A section that says of which kind it is."""

    @property
    def type(self) -> str:
        """That of its spec."""
        ...


S = TypeVar("S", bound=Typed)


@dataclass(frozen=True, slots=True)
class Channel(Generic[S]):
    """One channel as a run knows it."""

    name: str
    """Its name in the configuration."""
    section: S
    """What the configuration says of it: a `config.models.notifications.ChannelSection`."""
    network: NetworkSettings = UNSET_NETWORK
    """How servers are reached."""

    @property
    def type(self) -> str:
        """That of its spec."""
        return self.section.type


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

    async def send(self, number: int, notifications: Sequence[Any]) -> Sent:
        """Return once the target has them, each a `notifications.notification.Notification`.

        `number` grows by one from call to call, but for repeats.
        Raises: RetryLater: it may work later; Unreachable of these: nothing of it has left. NeedsOperator:
        the target refuses whatever comes, until somebody does something about it. Either way none counts.
        """
        ...

    async def check(self) -> str:
        """What was seen of the way to the target, with nothing sent. Raises: RetryLater, NeedsOperator."""
        ...

    async def close(self) -> None:
        """Leave in order."""
        ...


@dataclass(frozen=True, slots=True)
class ChannelContext:
    """What channels are built with."""

    session: Session
    """Leads by any network."""
    clock: Clock
    random: Random
    collector: str
    """The collector's name."""
    outputs: Sequence[OutputSettings]
    """Those of the configuration."""
    build_output: Callable[[OutputSettings], Output]
    """Makes an output a second time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelSpec(Generic[S]):
    """One kind of notification channel."""

    type: str
    """Its name in the configuration."""
    aliases: tuple[str, ...] = ()
    """Other names for the same."""
    arrives: str
    """What an alert is there, in a few words; docs/notifications.md has it."""
    needs: str
    """What has to be set up for it, in a few words."""
    section: Model
    """`detections.notifications.NAME` in a configuration, a `config.models.notifications.ChannelSection`."""
    build: Callable[[Channel[S], ChannelContext], Sender]
    """Makes the sender; its libraries are imported only now, and nothing is connected yet."""
    test: Sequence[str] = ("new",)
    """What a test tells, one tiding after the other; none where a run alone may send anything."""
    erasure: str = "not searched: what was sent is with the receiver; erase it there"
    """What is said to whoever has a person's records erased; empty where another place says it."""


CHANNELS: Registry[ChannelSpec[Any]] = Registry(
    "m365watch.notifications.channels", group="m365watch.channels", default="webhook"
)
"""Every kind of notification channel."""
