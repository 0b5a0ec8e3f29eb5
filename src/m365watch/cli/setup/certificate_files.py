"""The files of a new certificate: made, written all or none, and named for the configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from m365watch.auth.certificates.generation import (
    certificate_pem,
    key_pem,
    make_certificate,
    manifest_of,
    pfx_bytes,
)
from m365watch.common.atomic_files import PUBLIC, NewFile, require_free, write_new_files
from m365watch.common.secret import Secret

_SUFFIXES = (".cer", ".key", ".pfx", ".pem", ".crt")


@dataclass(frozen=True, slots=True)
class MakingAsked:
    """What is to be made."""

    prefix: Path
    """The files' path without their suffixes."""
    subject: x509.Name
    bits: int
    days: int
    password: Secret | None
    password_file: Path | None
    with_pfx: bool
    replaces: bool


@dataclass(frozen=True, slots=True)
class CreatedCertificate:
    """What was made, and where it is; the paths are absolute."""

    certificate: x509.Certificate
    bits: int
    days: int
    certificate_file: Path
    key_file: Path
    manifest_file: Path
    pfx_file: Path | None
    password_file: Path | None

    def configuration(self) -> dict[str, str]:
        """The keys of `credentials` that name the files, with whole paths."""
        keys = {"certificate_file": self.certificate_file, "private_key_file": self.key_file}
        if self.password_file is not None:
            keys["certificate_password_file"] = self.password_file
        return {key: str(path) for key, path in keys.items()}


def prefix_of(out: str, *, stem: str) -> Path:
    """The files' absolute path without their suffixes; a folder, and what ends in "/", gets files `stem`.

    The suffix of a certificate, where somebody names a file, is left out.
    """
    named = Path(out).absolute()
    if out.endswith("/") or named.is_dir():
        return named / stem
    return named.with_suffix("") if named.suffix in _SUFFIXES else named


def create_files(asked: MakingAsked, *, now: datetime) -> CreatedCertificate:
    """Make key and certificate and write them.

    Raises: NeedsOperator: a file is there already, or cannot be written; then none is.
    """
    certificate_file, key_file, manifest_file, pfx_file = (
        asked.prefix.with_name(asked.prefix.name + suffix)
        for suffix in (".cer", ".key", ".manifest.json", ".pfx")
    )
    paths = [key_file, certificate_file, manifest_file, *([pfx_file] if asked.with_pfx else [])]
    if not asked.replaces:
        # Before the key is drawn, which takes a moment.
        require_free(paths)
    made = make_certificate(asked.subject, bits=asked.bits, days=asked.days, now=now)
    password = asked.password.reveal().encode() if asked.password else None
    manifest = json.dumps(manifest_of([made.certificate]), indent=2) + "\n"
    files = [
        NewFile(key_file, key_pem(made.key, password)),
        NewFile(certificate_file, certificate_pem(made.certificate), PUBLIC),
        NewFile(manifest_file, manifest.encode(), PUBLIC),
    ]
    if asked.with_pfx:
        files.append(NewFile(pfx_file, pfx_bytes(made, password)))
    write_new_files(files, replaces=asked.replaces)
    return CreatedCertificate(
        certificate=made.certificate,
        bits=asked.bits,
        days=asked.days,
        certificate_file=certificate_file,
        key_file=key_file,
        manifest_file=manifest_file,
        pfx_file=pfx_file if asked.with_pfx else None,
        password_file=None if asked.password_file is None else asked.password_file.absolute(),
    )
