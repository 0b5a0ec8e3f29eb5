"""What a tenant keeps of its application's credentials, as Graph tells it.

Source: Microsoft Graph v1.0, application, passwordCredential and keyCredential. That a certificate's
`customKeyIdentifier` is its SHA-1 in base64 is how tools that upload certificates write it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from m365watch_simulator.service.identities import TenantIdentity
from m365watch_simulator.service.scenario import Behaviour

_LASTED = timedelta(days=730)
"""How long before its end a secret was made."""
_SECOND_DAYS = 360
"""How long the application's second secret still lasts at the start."""
_HINT_LENGTH = 3


class Registration:
    """The credentials of one tenant's application."""

    def __init__(self, identity: TenantIdentity, behaviour: Behaviour, *, started_at: datetime) -> None:
        """The secret's end is counted from `started_at`."""
        self._started_at = started_at
        self.secret_ends_at = started_at + timedelta(days=behaviour.secret_days)
        alike = [started_at + timedelta(days=days) for days in behaviour.alike_secrets_days]
        self._own_ends = (self.secret_ends_at, *alike)
        self.adopt(identity)

    def adopt(self, identity: TenantIdentity) -> None:
        """Tell of the credentials of `identity` from now on."""
        self._identity = identity
        others = {
            identity.second_secret: self._started_at + timedelta(days=_SECOND_DAYS),
            identity.expired_secret: self._started_at - timedelta(days=1),
        }
        self._secrets = [*((identity.client_secret, end) for end in self._own_ends), *others.items()]

    def document(self) -> dict[str, object]:
        """Graph's answer: never a secret, but for its first characters."""
        random = Random(f"{self._identity.client_id}/credentials")
        return {
            "passwordCredentials": [
                {
                    "customKeyIdentifier": None,
                    "displayName": f"collector {number}",
                    "endDateTime": _instant(ends_at),
                    "hint": secret[:_HINT_LENGTH],
                    "keyId": str(UUID(int=random.getrandbits(128), version=4)),
                    "secretText": None,
                    "startDateTime": _instant(ends_at - _LASTED),
                }
                for number, (secret, ends_at) in enumerate(self._secrets, start=1)
                if secret
            ],
            "keyCredentials": list(self._certificates(random)),
        }

    def _certificates(self, random: Random) -> Iterator[dict[str, object]]:
        if self._identity.certificate is None:
            return
        # Few tenants have one, and the library takes a while to import.
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        for certificate in x509.load_pem_x509_certificates(self._identity.certificate):
            yield {
                "customKeyIdentifier": base64.b64encode(certificate.fingerprint(hashes.SHA1())).decode(),  # noqa: S303 - how Entra names it
                "displayName": "CN=collector",
                "endDateTime": _instant(certificate.not_valid_after_utc),
                "key": None,
                "keyId": str(UUID(int=random.getrandbits(128), version=4)),
                "startDateTime": _instant(certificate.not_valid_before_utc),
                "type": "AsymmetricX509Cert",
                "usage": "Verify",
            }


def _instant(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
