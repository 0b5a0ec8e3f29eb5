"""The end of each credential as configuration and files tell it, before anybody is asked.

A secret is marked by a keyed hash of eight bytes, so that a new one in its place is not taken for the old
one: the key is the ledger's own secret seed, and no character of the secret is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from m365watch.auth.factory import read_again
from m365watch.common.file_access import read_small_file
from m365watch.common.secret import Secret
from m365watch.config.models.settings import (
    CertificateSettings,
    CredentialSettings,
    FederatedSettings,
    ManagedIdentitySettings,
    SecretSettings,
)
from m365watch.health.expiry.credential_expiry import CredentialEnd, CredentialKind, Source

CERTIFICATE_BYTES_MAX = 1_048_576
_MARK_BYTES = 8
NOT_ASKED = "no collector has asked Graph yet"
UNANSWERED = "Graph has not answered"
NO_GRAPH = "the cloud names no host of Microsoft Graph (cloud.graph_url)"


def present_ends(
    credentials: Sequence[CredentialSettings], *, seed: int, has_graph: bool
) -> list[CredentialEnd]:
    """One value for each of `credentials`; a file that cannot be read gives an unknown end with the reason.

    `seed` keys the marks. Reads files: not for the event loop where a certificate is among them.
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


def secret_now(settings: SecretSettings) -> Secret:
    """The secret, as its file has it now where it comes from one."""
    return read_again(settings.file, settings.secret) if settings.file else settings.secret


def reads_files(credentials: Sequence[CredentialSettings]) -> bool:
    """Whether `present_ends` and `secret_now` have files to read, which is nothing for the event loop."""
    return any(
        isinstance(one, CertificateSettings) or (isinstance(one, SecretSettings) and one.file is not None)
        for one in credentials
    )


def secret_mark(secret: Secret, *, seed: int) -> str:
    """What tells this secret from another one in its place."""
    key = seed.to_bytes(32, "big", signed=True)
    text = secret.reveal().encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, key=key, digest_size=_MARK_BYTES).hexdigest()


def _present_end(settings: CredentialSettings, *, seed: int, has_graph: bool) -> CredentialEnd:
    match settings:
        case SecretSettings():
            return _secret_end(settings, seed=seed, has_graph=has_graph)
        case CertificateSettings():
            return _certificate_end(settings)
        case FederatedSettings():
            return CredentialEnd(CredentialKind.FEDERATED, Source.RENEWED, key=settings.name)
        case ManagedIdentitySettings():
            return CredentialEnd(CredentialKind.MANAGED_IDENTITY, Source.RENEWED, key=settings.name)


def _secret_end(settings: SecretSettings, *, seed: int, has_graph: bool) -> CredentialEnd:
    kind, key = CredentialKind.SECRET, settings.name
    if settings.expires_at is not None:
        return CredentialEnd(kind, Source.CONFIGURATION, (settings.expires_at,), key=key)
    note = NOT_ASKED if has_graph else NO_GRAPH
    return CredentialEnd(kind, note=note, key=key, mark=secret_mark(secret_now(settings), seed=seed))


def _certificate_end(settings: CertificateSettings) -> CredentialEnd:
    # The library takes a while to import, and most applications have a secret.
    from m365watch.auth.certificates.certificate import load_certificate, thumbprints_of

    kind, key = CredentialKind.CERTIFICATE, settings.name
    password = settings.password.reveal().encode() if settings.password else None
    try:
        content, _ = read_small_file(settings.certificate, bytes_max=CERTIFICATE_BYTES_MAX)
        found = load_certificate(content, password, reads_key=False).certificate
    except FileNotFoundError:
        return CredentialEnd(kind, note=f"{settings.certificate} is not there", key=key)
    except ValueError as error:
        return CredentialEnd(kind, note=f"{settings.certificate} {error}", key=key)
    return CredentialEnd(
        kind,
        Source.CERTIFICATE,
        (found.not_valid_after_utc,),
        key=key,
        mark=thumbprints_of(found).sha1_hex,
    )
