"""Whether the keys of `credentials` make a proof, and the files that they name, looked at before a run.

Like `agreement`, this takes the document before the schema has seen it, so that it speaks up in the same
run as every other mistake; what is of the wrong kind it leaves to the schema.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from m365watch.common.file_access import read_with_status
from m365watch.config.config_file import Places
from m365watch.config.models.credentials import Credentials
from m365watch.config.secrets import FileGuard
from m365watch.config.secrets_secrets import RESPONSE, UNREAD
from m365watch.config.sections import Document, section_at, texts_at
from m365watch.config.validation_report import KeyPath, Report
from m365watch.http.pem import PEM_CERTIFICATE, PEM_KEY, PFX

PROOFS = (
    "client_secret",
    "client_secret_file",
    "certificate_file",
    "federated_token_file",
    "managed_identity",
)
"""Each of these keys stands for a credential; the others say more of one."""
FILE_BYTES_MAX = 1_048_576

_DER = b"\x30"
_OF_CERTIFICATES = ("private_key", "private_key_file", "certificate_password", "certificate_password_file")
_FILES = ("certificate_file", "private_key_file", "federated_token_file")


def check_proofs(
    document: Document, *, places: Places, guard: FileGuard, report: Report, reads: bool
) -> None:
    """Refuse credentials that prove nothing, and make the paths of their files absolute, in place.

    The files are looked at only where `reads` is true.
    """
    for path in (*(("inputs", name, "credentials") for name in section_at(document, "inputs")), RESPONSE):
        credentials = section_at(document, *path)
        if not credentials:
            continue
        _check_given(credentials, path, report)
        _check_application(credentials, path, report)
        for section, at in _sections(credentials, path):
            _check_certificate_keys(section, at, report)
            _check_files(section, at, _Looking(places.folder_of(path), guard, report, reads=reads))


def _sections(credentials: Document, path: KeyPath) -> Iterator[tuple[Document, KeyPath]]:
    yield credentials, path
    second = credentials.get("second")
    if isinstance(second, dict):
        yield second, (*path, "second")


def _given(section: Document, *keys: str) -> list[str]:
    """Those of `keys` that have a value; `managed_identity: false` is none."""
    return [key for key in keys if section.get(key) not in (None, False, "false")]


def _check_given(credentials: Document, path: KeyPath, report: Report) -> None:
    for section, at in _sections(credentials, path):
        if not _given(section, *PROOFS) and not _is_misspelt(section):
            report.refuse(at, f"lacks a credential; give one of {', '.join(PROOFS)}")
        if section.get("client_secret_expires_at") and not _given(section, *PROOFS[:2]):
            report.refuse(
                (*at, "client_secret_expires_at"),
                "is about a client_secret, and there is none; remove the key",
            )


def _is_misspelt(section: Document) -> bool:
    """Whether some key, which the schema will refuse, is nearly the name of a proof."""
    unknown = [key for key in section if key not in Credentials.model_fields]
    return any(difflib.get_close_matches(key, PROOFS, n=1) for key in unknown)


def _check_application(credentials: Document, path: KeyPath, report: Report) -> None:
    proofs = [proof for section, _ in _sections(credentials, path) for proof in _given(section, *PROOFS)]
    client_id, identity = credentials.get("client_id"), credentials.get("managed_identity")
    if client_id is None and any(proof != "managed_identity" for proof in proofs):
        report.refuse((*path, "client_id"), "is missing; give the application (client) ID, a GUID")
    elif client_id is None and proofs and len(set(texts_at(credentials, "tenant_id"))) > 1:
        report.refuse(
            (*path, "tenant_id"),
            "names several tenants, and a managed identity reads its own alone; "
            "give the client_id of a multi-tenant application that trusts the identity",
        )
    if isinstance(client_id, str) and isinstance(identity, str) and client_id.lower() == identity.lower():
        report.refuse(
            (*path, "client_id"),
            "is that of the managed identity itself; remove the key, or give that of an application",
        )
    if credentials.get("assertion_audience") is not None and not any(
        _given(section, "certificate_file") for section, _ in _sections(credentials, path)
    ):
        report.refuse(
            (*path, "assertion_audience"), "is for a certificate, and there is none; remove the key"
        )


def _check_certificate_keys(section: Document, path: KeyPath, report: Report) -> None:
    given = _given(section, *_OF_CERTIFICATES)
    if not _given(section, "certificate_file"):
        for key in given:
            report.refuse((*path, key), "belongs to a certificate; give certificate_file, or remove the key")
    if "private_key" in given and "private_key_file" in given:
        report.refuse((*path, "private_key"), "is given beside private_key_file; keep one of the two")
    text = section.get("private_key")
    if isinstance(text, str) and text not in ("", UNREAD) and not _is_key(text):
        report.refuse((*path, "private_key"), "holds no private key in PEM; give the text of the whole file")


def _is_key(text: str) -> bool:
    """Whether it is PEM, or a variable that has no value where nothing is sent."""
    return "${" in text or PEM_KEY.search(text.encode("utf-8", "replace")) is not None


class _Looking:
    """How the files of one input are looked at."""

    def __init__(self, folder: Path, guard: FileGuard, report: Report, *, reads: bool) -> None:
        self.folder = folder
        self.guard = guard
        self.report = report
        self.reads = reads


def _check_files(section: Document, path: KeyPath, looking: _Looking) -> None:
    """Make the paths absolute, and name each file that will not do."""
    report = looking.report
    found: dict[str, bytes] = {}
    for key in _FILES:
        file, at = section.get(key), (*path, key)
        if not isinstance(file, str) or not file.strip() or file.startswith("~") or at in report.mistakes:
            continue
        place = Path(os.path.normpath(looking.folder / file))
        section[key] = str(place)
        if looking.reads:
            try:
                found[key] = _look(key, place, at, looking)
            except ValueError as error:
                report.refuse_value(at, file, str(error))
    certificate = found.get("certificate_file", b"")
    lacks_key = _is_bare(certificate) or (
        PEM_CERTIFICATE.search(certificate) and not PEM_KEY.search(certificate)
    )
    if lacks_key and not _given(section, "private_key", "private_key_file"):
        report.refuse(
            (*path, "private_key_file"), "is missing; certificate_file holds no private key of its own"
        )


def _is_bare(content: bytes) -> bool:
    """Whether it is DER without a key, as `.cer` files are."""
    return content.startswith(_DER) and not PFX.match(content)


def _look(key: str, place: Path, at: KeyPath, looking: _Looking) -> bytes:
    """The file's content, if it is what `key` wants and nobody else's business.

    Raises:
        ValueError: the end of a sentence that starts with the file's name.
    """
    try:
        content, status = read_with_status(place, bytes_max=FILE_BYTES_MAX)
    except FileNotFoundError:
        raise ValueError("cannot be read: No such file or directory") from None
    if not content.strip():
        raise ValueError("is empty")
    if key == "federated_token_file":
        warning = looking.guard.judge_token(place, status)
    else:
        _check_kind(key, content)
        is_secret = PEM_KEY.search(content) or PFX.match(content) or key == "private_key_file"
        warning = looking.guard.check(place, status) if is_secret else None
    if warning is not None:
        looking.report.warn(at, warning)
    return content


def _check_kind(key: str, content: bytes) -> None:
    if key == "private_key_file":
        if not PEM_KEY.search(content) and not content.startswith(_DER):
            raise ValueError("holds no private key in PEM; give the key that belongs to certificate_file")
    elif not PEM_CERTIFICATE.search(content) and not content.startswith(_DER):
        raise ValueError("holds no certificate; give one in PEM, DER or PFX")
