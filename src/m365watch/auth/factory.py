"""What an application proves itself with at the token endpoint, and what gives it a token without."""

from __future__ import annotations

from collections.abc import Sequence

from m365watch.common.clock import Clock
from m365watch.config.models.credentials import CredentialSettings
from m365watch.http.client import Session
from m365watch.registry.credential_specs import CREDENTIALS, Credential, CredentialContext

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def make_credentials(
    client_id: str, settings: Sequence[CredentialSettings], *, session: Session, clock: Clock, cloud: str = ""
) -> tuple[Credential, ...]:
    """What the application `client_id` may prove itself with, in the order of `settings`.

    `cloud` is the name of the cloud, which decides whom an identity's token is asked for.
    """
    context = CredentialContext(client_id, session, clock, cloud)
    return tuple(CREDENTIALS.by_name[one.type].build(one, context) for one in settings)
