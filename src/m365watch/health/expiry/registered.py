"""The ends of an application's credentials, as its registration in Entra has them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from m365watch.auth.app_registration import ROLES
from m365watch.auth.registration import Registration, Standing, find_alike
from m365watch.config.models.settings import CredentialSettings, SecretSettings
from m365watch.health.expiry.credential_expiry import CredentialEnd, Source
from m365watch.health.expiry.present import secret_now, with_answer


def registered_ends(
    credentials: Sequence[CredentialSettings],
    present: Sequence[CredentialEnd],
    registration: Registration,
    now: datetime,
) -> list[CredentialEnd]:
    """What is known of each of `credentials` once Graph has listed the registration.

    Reads files: not for the event loop where a secret lies in one.
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


def _registered_end(
    settings: CredentialSettings, one: CredentialEnd, registration: Registration, now: datetime
) -> CredentialEnd:
    if isinstance(settings, SecretSettings) and settings.expires_at is None:
        ends = registration.ends_of_secret(secret_now(settings).reveal(), now)
        source = Source.GRAPH if ends else Source.UNKNOWN
        note = find_alike(ends) if ends else "Graph lists no secret that begins like this one"
        return CredentialEnd(one.kind, source, ends, note, one.key, one.mark)
    registered = registration.end_of_certificate(one.mark) if one.mark else None
    ends = (registered,) if registered else ()
    return with_answer(one, CredentialEnd(one.kind, Source.GRAPH, ends, key=one.key, mark=one.mark))
