"""A kind of notification channel that is not of this package: a carrier pigeon for each alert."""

# Annotations stay objects here, for pydantic.

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from m365watch.common.errors import NotificationsRefused
from m365watch.config.models.base import FilePath, SecretText
from m365watch.config.models.notifications import ChannelSection, Rate
from m365watch.config.validation_report import KeyPath
from m365watch.notifications.notification import Notification
from m365watch.registry.channel_specs import Channel, ChannelContext, ChannelSpec, Sent


class PigeonSection(ChannelSection):
    """A carrier pigeon for each alert."""

    type: Literal["pigeon", "dove"] = Field(title="pigeon or dove")

    rate_limit_per_minute: Rate = 2
    tells_closed: ClassVar[bool] = True

    loft: str = Field(title="the name of a loft")
    """Where pigeons fly to."""

    flies: Literal["by day", "by night"] = Field(default="by day", title="by day or by night")
    """When they leave."""

    token: SecretText = Field(title="the token, or the key token_file")
    """The ring on the pigeon's leg."""

    token_file: FilePath | None = Field(default=None, title="the path of a file that only its owner may read")
    """A file that holds the token."""

    @classmethod
    def disagreements(cls, options: Mapping[str, object], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        if options.get("type") == "dove" and options.get("flies") == "by night":
            yield (*path, "flies"), "is not for a dove; give by day"

    def oddities(self, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        if self.flies == "by night":
            yield (*path, "flies"), "loses some to owls"


FLOWN: list[str] = []


class PigeonSender:
    """Lets go of a pigeon for each notification."""

    at_once_max = 1

    def __init__(self, section: PigeonSection) -> None:
        self.loft = section.loft

    async def open(self, *, last: int, position: str, newest: int) -> int:
        return last

    async def send(self, number: int, notifications: Sequence[Notification]) -> Sent:
        FLOWN.extend(str(one.tiding) for one in notifications)
        return Sent()

    async def check(self) -> str:
        if self.loft == "closed":
            raise NotificationsRefused("the loft is closed", fix="open it", where="notifications")
        return f"{self.loft} is open"

    async def close(self) -> None: ...


def _build(channel: Channel[PigeonSection], _: ChannelContext) -> PigeonSender:
    return PigeonSender(channel.section)


SPEC = ChannelSpec(
    type="pigeon",
    aliases=("dove",),
    arrives="a slip of paper",
    needs="a loft",
    section=PigeonSection,
    build=_build,
    test=("new", "closed"),
    erasure="not searched: the slip is in the loft; burn it",
)
