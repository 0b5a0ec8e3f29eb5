"""What is known of a credential's end, and what of it is worth a warning. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from m365watch.auth.app_registration import ROLES, Registration, Standing, find_alike
from m365watch.config.models.credentials import CredentialSettings
from m365watch.registry.credential_specs import CredentialEnd, Source

_MARK_BYTES = 8
NOT_ASKED = "no collector has asked Graph yet"
UNANSWERED = "Graph has not answered"
NO_GRAPH = "the cloud names no host of Microsoft Graph (cloud.graph_url)"


def present_ends(
    credentials: Sequence[CredentialSettings], *, seed: int, has_graph: bool
) -> list[CredentialEnd]:
    """One value for each of `credentials`; a file that cannot be read gives an unknown end with the reason.

    `seed` keys the marks. Reads the files of those that have some.
    """
    return [_present_end(one, seed=seed, has_graph=has_graph) for one in credentials]


def is_unasked(end: CredentialEnd) -> bool:
    """Whether it is for Graph to know, which was not asked yet."""
    return end.source is Source.UNKNOWN and end.note == NOT_ASKED


def with_answers(present: Sequence[CredentialEnd], before: Sequence[CredentialEnd]) -> list[CredentialEnd]:
    """What is known now, with Graph's last answer about each credential that is still the same."""
    answers = {one.mark: one for one in before if one.mark and one.source in (Source.GRAPH, Source.UNKNOWN)}
    return [with_answer(one, answers.get(one.mark)) for one in present]


def with_answer(one: CredentialEnd, answer: CredentialEnd | None) -> CredentialEnd:
    """What is known of a credential with Graph's `answer` about it."""
    if answer is not None and is_unasked(one):
        return answer
    # The registration of a certificate can end before the certificate does.
    if answer is not None and one.source is Source.CERTIFICATE and () < answer.ends < one.ends:
        return answer
    return one


def registered_ends(
    credentials: Sequence[CredentialSettings],
    present: Sequence[CredentialEnd],
    registration: Registration,
    now: datetime,
) -> list[CredentialEnd]:
    """What is known of each of `credentials` once Graph has listed the registration.

    Reads the files of those that have some.
    """
    return [
        _registered_end(settings, one, registration, now)
        for settings, one in zip(credentials, present, strict=True)
    ]


def ends_without_answer(ends: Sequence[CredentialEnd], why: str) -> list[CredentialEnd]:
    """The same with `why` as the reason of each end that Graph alone can know, and has not told."""
    return [
        msgspec.structs.replace(one, note=why) if one.source is Source.UNKNOWN and one.mark else one
        for one in ends
    ]


def why_not_listed(standing: Standing) -> str:
    """Why nothing is known after an answer that listed nothing."""
    if standing is Standing.NOT_PERMITTED:
        return f"Graph does not permit the question, which needs {' or '.join(ROLES)}"
    return "the application is registered in another tenant"


def _present_end(settings: CredentialSettings, *, seed: int, has_graph: bool) -> CredentialEnd:
    end = settings.end()
    if not settings.asks_graph:
        return end
    key = seed.to_bytes(32, "big", signed=True)
    text = settings.secret_now().get_secret_value().encode("utf-8", "surrogatepass")
    mark = hashlib.blake2b(text, key=key, digest_size=_MARK_BYTES).hexdigest()
    return msgspec.structs.replace(end, note=NOT_ASKED if has_graph else NO_GRAPH, mark=mark)


def _registered_end(
    settings: CredentialSettings, one: CredentialEnd, registration: Registration, now: datetime
) -> CredentialEnd:
    if settings.asks_graph:
        ends = registration.ends_of_secret(settings.secret_now().get_secret_value(), now)
        source = Source.GRAPH if ends else Source.UNKNOWN
        note = find_alike(ends) if ends else "Graph lists no secret that begins like this one"
        return CredentialEnd(one.kind, source, ends, note, one.key, one.mark)
    registered = registration.end_of_certificate(one.mark) if one.mark else None
    ends = (registered,) if registered else ()
    return with_answer(one, CredentialEnd(one.kind, Source.GRAPH, ends, key=one.key, mark=one.mark))


DAYS_AHEAD = (30, 14, 7, 1)
"""So many days before its end a credential is warned of."""
ENDED = 0
"""The threshold of a credential that has ended."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Judged:
    """How one credential of an application stands."""

    number: int
    """Its place among the application's credentials, from 1."""
    end: CredentialEnd
    ends_at: datetime | None
    left: timedelta | None
    """Until then; below zero where it has passed."""
    threshold: int | None
    """The number of `DAYS_AHEAD` that it has come to, or `ENDED`; None: nothing to warn of."""
    others: int
    """How many other credentials of the application go on for longer than any warning reaches."""

    @property
    def days_left(self) -> float | None:
        """Days until the end, below zero where it has passed."""
        return None if self.left is None else self.left / _DAY

    @property
    def stops_collecting(self) -> bool:
        """Whether it has ended and no other credential is known to stand in."""
        return self.threshold == ENDED and not self.others


def threshold_of(left: timedelta) -> int | None:
    """The number of `DAYS_AHEAD` that a credential with so much time left has come to; `ENDED` at its end."""
    if left <= timedelta():
        return ENDED
    return min((days for days in DAYS_AHEAD if left <= days * _DAY), default=None)


def judge(ends: Sequence[CredentialEnd], now: datetime) -> list[Judged]:
    """How each credential of one application stands at `now`."""
    ends_at = [one.ends_at(now) for one in ends]
    left = [None if at is None else at - now for at in ends_at]
    thresholds = [None if span is None else threshold_of(span) for span in left]
    lasting = [
        one.source is Source.RENEWED or (span is not None and threshold is None)
        for one, span, threshold in zip(ends, left, thresholds, strict=True)
    ]
    return [
        Judged(
            place + 1,
            one,
            ends_at[place],
            left[place],
            thresholds[place],
            others=sum(lasting) - lasting[place],
        )
        for place, one in enumerate(ends)
    ]
