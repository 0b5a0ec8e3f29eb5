"""Certificates of authorities, read from a file or a folder of files and tried out."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path

from m365watch.common.errors import SettingsRefused
from m365watch.common.file_access import is_file, is_folder, read_small_file
from m365watch.http.settings import NetworkSettings

WHOLE_CERTIFICATE = re.compile(
    rb"-----BEGIN (?:X509 )?CERTIFICATE-----.*?-----END (?:X509 )?CERTIFICATE-----", re.DOTALL
)
PEM_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----")
PEM_TRUSTED = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----")
"""One that OpenSSL takes for a connection; an application's own certificate cannot be of its kind TRUSTED."""
PEM_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
DER = b"\x30"
"""What a file that is no PEM begins with: a sequence."""
PFX = re.compile(rb"\x30(?:[\x00-\x7f]|\x80|\x81.|\x82..|\x83...|\x84....)\x02\x01\x03", re.DOTALL)
"""A sequence that begins with the version 3, of whatever length."""


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


BUNDLE_VARIABLE = "SSL_CERT_FILE"
"""Where OpenSSL looks for the authorities in place of the system's file."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def make_context(network: NetworkSettings, *, speaks: str = "http/1.1") -> ssl.SSLContext:
    """What every connection of `network` is secured by: host and chain are always verified.

    Made without `create_default_context`, whose strictness about old authorities differs from one Python to
    the next, and which would write keys where SSLKEYLOGFILE says. `speaks` is offered to the server;
    where it is empty, nothing is.

    Raises: ValueError: its CA bundle cannot be used; the end of a sentence that starts with its name.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[network.tls_minimum]
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if speaks:
        context.set_alpn_protocols([speaks])
    if network.ca_bundle is None:
        context.load_default_certs()
    else:
        trust_authorities(context, network.ca_bundle)
    return context


def check_bundle_variable(environment: Mapping[str, str]) -> None:
    """Refuse an environment whose SSL_CERT_FILE names no certificates: OpenSSL would pass over it in silence.

    Raises: SettingsRefused.
    """
    named = environment.get(BUNDLE_VARIABLE)
    if not named:
        return
    try:
        check_authorities(Path(named).absolute(), may_be_folder=False)
    except ValueError as error:
        mistake, _, fix = str(error).partition("; ")
        raise SettingsRefused([f"{BUNDLE_VARIABLE}: {named} {mistake}"], where="", fix=fix) from None
