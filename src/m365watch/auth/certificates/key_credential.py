"""A certificate as an application's manifest has it: one of its `keyCredentials`.

Source: api-contract 1.5; the names are those of Microsoft Graph, which the portal's manifest shares.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from m365watch.auth.certificates.certificate import thumbprints_of


def manifest_of(certificates: Iterable[x509.Certificate]) -> dict[str, list[dict[str, str]]]:
    """The manifest's part that makes `certificates` the application's own; nothing in it is secret."""
    return {"keyCredentials": [key_credential(one) for one in certificates]}


def key_credential(certificate: x509.Certificate) -> dict[str, str]:
    """The one certificate; always the same for it, its `keyId` included."""
    thumbprints = thumbprints_of(certificate)
    return {
        "customKeyIdentifier": _base64(thumbprints.sha1),
        "displayName": certificate.subject.rfc4514_string(),
        "endDateTime": _instant(certificate.not_valid_after_utc),
        "key": _base64(certificate.public_bytes(Encoding.DER)),
        "keyId": str(UUID(bytes=thumbprints.sha256[:16], version=4)),
        "startDateTime": _instant(certificate.not_valid_before_utc),
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
    }


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
