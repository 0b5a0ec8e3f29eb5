"""One tenant's subscriptions: absent, enabled, disabled, and the ways between.

Source: api-contract 2.1 to 2.3 and 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from m365watch.common.model import CONTENT_TYPES, ContentType
from m365watch_simulator.feed.refusals import refusal
from m365watch_simulator.service.scenario import Behaviour


class State(StrEnum):
    """Where a subscription stands."""

    ABSENT = "absent"
    ENABLED = "enabled"
    DISABLED = "disabled"
    """By an administrator; a start enables it again."""


@dataclass(slots=True)
class Webhook:
    """Where a subscription's notifications go."""

    address: str
    auth_id: str
    expiration: str = ""
    """As it was asked for; empty: never."""
    status: str = "enabled"
    failures: int = 0
    """Notifications in a row that were not taken."""

    def standing(self, now: datetime) -> str:
        """enabled, disabled or expired."""
        ends_at = _instant(self.expiration)
        return "expired" if ends_at is not None and ends_at <= now else self.status

    def document(self, now: datetime) -> dict[str, object]:
        """As a list of subscriptions shows it."""
        return {
            "authId": self.auth_id,
            "address": self.address,
            "expiration": self.expiration,
            "status": self.standing(now),
        }

    def is_as(self, asked: Webhook, now: datetime) -> bool:
        """Whether a start that asks for `asked` would change nothing."""
        mine = (self.address, self.auth_id, self.expiration, self.standing(now))
        return mine == (asked.address, asked.auth_id, asked.expiration, "enabled")


@dataclass(slots=True)
class Subscription:
    """One content type's subscription."""

    spelling: str
    """The content type as the last start spelt it; echoed so."""
    state: State = State.ABSENT
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    webhook: Webhook | None = None
    dead_until: datetime | None = None
    """The end of the limbo that a start right after a stop leads to."""
    gaps: list[tuple[datetime, datetime]] = field(default_factory=list)
    """When it was stopped: content created then is lost for good."""

    def lost(self, created_at: datetime) -> bool:
        """Whether content created then was made available while the subscription was stopped."""
        return any(start <= created_at < end for start, end in self.gaps)


class Subscriptions:
    """The state machine; every refusal is raised as the service words it."""

    def __init__(self, behaviour: Behaviour) -> None:
        """Every subscription is absent."""
        self._behaviour = behaviour
        self._all = {content_type: Subscription(str(content_type)) for content_type in ContentType}

    def start(self, spelling: str, now: datetime, webhook: Webhook | None = None) -> str:
        """Enable a subscription, with that webhook or with none; gives the content type as it was sent.

        Raises: Refusal: AF20020, AF20024, or AF429 within the cooldown.
        """
        subscription = self._all[content_type_of(spelling)]
        if subscription.state is State.ENABLED and _is_same(subscription.webhook, webhook, now):
            raise refusal("AF20024")
        cooldown = timedelta(seconds=self._behaviour.start_cooldown_s)
        if subscription.started_at is not None and now < subscription.started_at + cooldown:
            raise refusal("AF429", "StartSubscription", "simulated")
        if subscription.stopped_at is not None:
            subscription.gaps.append((subscription.stopped_at, now))
            if self._behaviour.limbo_s and now < subscription.stopped_at + timedelta(minutes=15):
                subscription.dead_until = now + timedelta(seconds=self._behaviour.limbo_s)
        subscription.webhook = webhook
        subscription.spelling = spelling
        subscription.state = State.ENABLED
        subscription.started_at = now
        subscription.stopped_at = None
        return spelling

    def stop(self, spelling: str, now: datetime) -> None:
        """End a subscription.

        Raises: Refusal: AF20020, AF20022.
        """
        subscription = self._all[content_type_of(spelling)]
        if subscription.state is State.ABSENT:
            raise refusal("AF20022")
        subscription.state = State.ABSENT
        subscription.webhook = None
        subscription.stopped_at = now

    def listed(self, now: datetime) -> list[dict[str, object]]:
        """The answer to /subscriptions/list; a subscription in limbo is not among them."""
        return [
            {
                "contentType": subscription.spelling,
                "status": str(subscription.state),
                "webhook": subscription.webhook and subscription.webhook.document(now),
            }
            for subscription in self._all.values()
            if subscription.state is not State.ABSENT and not _dead(subscription, now)
        ]

    def webhooks(self, now: datetime) -> list[tuple[ContentType, Webhook]]:
        """The webhooks that are to be notified."""
        return [
            (content_type, one.webhook)
            for content_type, one in self._all.items()
            if one.webhook is not None
            and one.state is State.ENABLED
            and one.webhook.standing(now) == "enabled"
        ]

    def webhook(self, content_type: ContentType) -> Webhook | None:
        """The webhook of a subscription, to be looked at or meddled with from outside."""
        return self._all[content_type].webhook

    def require(self, spelling: str, now: datetime) -> ContentType:
        """The content type of an enabled subscription.

        Raises: Refusal: AF20020, AF20022, AF20023.
        """
        content_type = content_type_of(spelling)
        subscription = self._all[content_type]
        if subscription.state is State.ABSENT:
            raise refusal("AF20022")
        if subscription.state is State.DISABLED or _dead(subscription, now):
            raise refusal("AF20023")
        return content_type

    def lost(self, content_type: ContentType, created_at: datetime) -> bool:
        """Whether content created then fell into a time without subscription."""
        return self._all[content_type].lost(created_at)

    def force(self, content_type: ContentType, state: State) -> None:
        """Put a subscription into `state` from outside, as an administrator or a fault does."""
        self._all[content_type].state = state


def content_type_of(spelling: str) -> ContentType:
    """The content type, however its letters' case is.

    Raises: Refusal: AF20020.
    """
    try:
        return CONTENT_TYPES[spelling.lower()]
    except KeyError:
        raise refusal("AF20020") from None


def _is_same(mine: Webhook | None, asked: Webhook | None, now: datetime) -> bool:
    return asked is None if mine is None else asked is not None and mine.is_as(asked, now)


def _instant(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant


def _dead(subscription: Subscription, now: datetime) -> bool:
    return subscription.dead_until is not None and now < subscription.dead_until
