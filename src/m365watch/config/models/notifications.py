"""The key `detections.notifications`: what every target of notifications takes."""

# Annotations stay objects here (`base.Section` says why).

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.config.models.base import ON_OFF, Guid, Switch, Whole, listed
from m365watch.config.models.kinds import KindSection, sections_of
from m365watch.registry.channel_specs import CHANNELS

_RULE_CHARACTERS_MAX = 200


def _parse_rule_words(text: str) -> str:
    """The text in lower case, without what is around it."""
    plain = text.strip().lower()
    if not plain or len(plain) > _RULE_CHARACTERS_MAX:
        raise ValueError("is no rule's number, id, or part of its title; `m365watch rules list` shows them")
    return plain


RuleWords = Annotated[str, AfterValidator(_parse_rule_words)]
Rate = Annotated[Whole | None, Field(ge=1, le=6_000, title="a whole number, 1 to 6,000")]
DigestAfter = Annotated[Whole, Field(ge=1, le=5_000, title="a whole number, 1 to 5,000")]


class ChannelSection(KindSection):
    """What every target of notifications takes, whatever its type.

    `docs/notifications.md` says what arrives at each type of target, and what is promised.
    """

    type: str = Field(title="a type that is named below")
    """The kind of target."""

    enabled: Switch = Field(default=True, title=ON_OFF)
    """Whether the target is told anything; one that is switched off is not read further."""

    min_severity: Literal["informational", "low", "medium", "high", "critical"] = Field(
        default="medium", title="informational, low, medium, high or critical"
    )
    """Alerts of this severity and worse ones are told."""

    rules: Annotated[tuple[RuleWords, ...], BeforeValidator(listed), Field(max_length=1_000)] = Field(
        default=(), title="a rule's number, id, or a part of its title, or a list of them"
    )
    """Only alerts of these rules; left out, of all."""

    tenants: Annotated[frozenset[Guid], BeforeValidator(listed), Field(max_length=10_000)] = Field(
        default=frozenset(), title="a tenant's GUID, or a list of GUIDs"
    )
    """Only alerts of these tenants; left out, of all."""

    rate_limit_per_minute: Rate = None
    """How many notifications a minute; the worst come first, the others wait. Critical ones may be as many
    again. There is no limit unless a type has its own."""

    digest_after: DigestAfter = 5_000
    """Where more alerts than this wait, the last notification of a minute is a digest that names all of
    them."""

    update_interval_secs: Whole = Field(
        default=3_600, ge=0, le=604_800, title="a whole number of seconds, 0 to 604,800"
    )
    """How long after it was told an alert that has grown is told again; 0 for never. One that became more
    severe is told at once."""

    resolved: Switch = Field(default=True, title=ON_OFF)
    """Whether it is told what becomes of an alert: acknowledged, closed, opened again, withdrawn."""

    tells_closed: ClassVar[bool] = False
    """Whether an alert that was closed before its turn came is told all the same, as programs want it."""


def channel_sections() -> dict[str, type[ChannelSection]]:
    """The section of each type of channel, under all of its names."""
    return sections_of(CHANNELS, ChannelSection)
