"""Certificates of authorities, read from a file or a folder of files and tried out."""

from __future__ import annotations

import ssl
from pathlib import Path

from m365watch.common.file_access import is_file, is_folder, read_small_file
from m365watch.http.pem import DER, WHOLE_CERTIFICATE

BUNDLE_BYTES_MAX = 8 << 20
"""The largest file of certificates; a system's whole store has about 250 kB."""

FILES_MAX = 2_000
"""The most files of a folder that are looked at."""


def trust_authorities(context: ssl.SSLContext, bundle: Path) -> int:
    """How many certificates `context` trusts after those in `bundle`, a file or a folder, were added to it.

    Raises:
        ValueError: there is none, or one cannot be read; the end of a sentence that starts with the name.
    """
    if is_folder(bundle):
        for file in _files_in(bundle):
            _trust_file(context, file, within=file.name)
    else:
        _trust_file(context, bundle)
    count = context.cert_store_stats()["x509"]
    if not count:
        where = "no file in it holds a certificate" if is_folder(bundle) else "holds no certificate"
        raise ValueError(f"{where}; give the authorities' certificates in PEM")
    return count


def check_authorities(bundle: Path, *, may_be_folder: bool = True) -> None:
    """Nothing, where a connection can be made with what is in `bundle`; raises ValueError as above."""
    if not may_be_folder and is_folder(bundle):
        raise ValueError("is a folder; name a file of certificates in PEM")
    trust_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), bundle)


def _files_in(folder: Path) -> list[Path]:
    """The files of the folder in the order of their names; what is no file is left out."""
    try:
        found = sorted(path for path in folder.iterdir() if is_file(path))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or 'unknown'}") from None
    if len(found) > FILES_MAX:
        raise ValueError(f"has more than {FILES_MAX:,} files; give a folder with certificates alone")
    return found


def _trust_file(context: ssl.SSLContext, file: Path, *, within: str = "") -> None:
    """Trust every certificate in `file`; one of a folder, then named by `within`, may hold none."""
    prefix = f"has {within}, which " if within else ""
    try:
        content, _ = read_small_file(file, bytes_max=BUNDLE_BYTES_MAX)
    except FileNotFoundError:
        raise ValueError(f"is not there; put it into {file.parent}, or give its whole path") from None
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None
    if len(content) > BUNDLE_BYTES_MAX:
        raise ValueError(f"{prefix}is larger than {BUNDLE_BYTES_MAX >> 20} MB, which no bundle needs")
    found = b"\n".join(WHOLE_CERTIFICATE.findall(content))
    try:
        if found:
            context.load_verify_locations(cadata=found.decode("ascii"))
        elif content.startswith(DER):
            context.load_verify_locations(cadata=content)
    except (ssl.SSLError, ValueError):
        raise ValueError(f"{prefix}has a certificate that cannot be read; export it anew, in PEM") from None
