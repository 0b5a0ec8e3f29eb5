"""The certificate files of outputs: found where Devo's collector finds them, and looked at before a run."""

from __future__ import annotations

import ipaddress
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from m365watch.common.file_access import read_small_file
from m365watch.common.secret import Secret
from m365watch.common.urls import split_url
from m365watch.config.document import NOTIFICATIONS, Document, section_at
from m365watch.config.validation_report import KeyPath, Report
from m365watch.http.tls import PEM_KEY, PEM_TRUSTED

APP_SERVICE_VARIABLES = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")
"""Set by App Service, Functions and Container Apps."""
OVERRIDE_VARIABLE = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
"""Another place for IMDS, as Azure's own libraries know it; here for loopback only."""
IMDS_URL = "http://169.254.169.254"
"""Azure's Instance Metadata Service: link-local, and plain http by its nature."""


@dataclass(frozen=True, slots=True)
class IdentityEndpoint:
    """Where a machine gives out the tokens of its managed identity."""

    url: str = IMDS_URL
    """Of IMDS without its path; of App Service whole."""
    header: Secret | None = None
    """App Service's own secret, which shows that a request comes from inside; None: this is IMDS."""


def find_endpoint(environment: Mapping[str, str]) -> IdentityEndpoint:
    """App Service's where both its variables are set, else IMDS.

    Raises:
        ValueError: the end of a mistake's line.
    """
    url, header = (environment.get(name) for name in APP_SERVICE_VARIABLES)
    if url and header:
        if not _is_near(url, link_local=True):
            raise ValueError(
                "cannot be had: the variable IDENTITY_ENDPOINT is no http address of this machine; "
                "unset it, or set it as App Service does"
            )
        return IdentityEndpoint(url.rstrip("/"), Secret(header))
    override = environment.get(OVERRIDE_VARIABLE)
    if not override:
        return IdentityEndpoint()
    if not _is_near(override, link_local=override.rstrip("/") == IMDS_URL):
        raise ValueError(
            f"cannot be had: the variable {OVERRIDE_VARIABLE} may name a loopback address only; unset it"
        )
    return IdentityEndpoint(override.rstrip("/"))


def _is_near(url: str, *, link_local: bool) -> bool:
    """Whether it is plain http to this machine itself; or to its link, where only its host answers."""
    parts = split_url(url)
    host = parts.hostname or ""
    is_plain = parts.scheme == "http" and parts.port != 0 and "@" not in url
    if host == "localhost":
        return is_plain
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return is_plain and (address.is_loopback or (link_local and address.is_link_local))


CERTIFICATES_FOLDER = "certs"
FILE_BYTES_MAX = 1_048_576

_KINDS = {
    "chain": (PEM_TRUSTED, "holds no certificate in PEM; give the authority's certificates"),
    "cert": (PEM_TRUSTED, "holds no certificate in PEM; give the client's certificate"),
    "key": (PEM_KEY, "holds no private key in PEM; give the key that belongs to cert"),
}
_OTHERS_CAN_READ = 0o044


def find_certificates(document: Document, *, folder: Path, report: Report) -> None:
    """Set `chain`, `cert` and `key` of outputs and targets of notifications to absolute paths, in place.

    A file that is missing or of the wrong kind is a mistake. A key that others can read is a warning only:
    certificates are often mounted into a container with a mode that nobody in it can change.
    """
    places = [("outputs", name, "config") for name in section_at(document, "outputs")]
    places += [(*NOTIFICATIONS, name) for name in section_at(document, *NOTIFICATIONS)]
    for place in places:
        config = section_at(document, *place)
        for key in _KINDS:
            path: KeyPath = (*place, key)
            file = config.get(key)
            if isinstance(file, str) and file.strip() and path not in report.mistakes:
                try:
                    found, mode = _find(file, key, folder)
                except ValueError as error:
                    report.refuse_value(path, file, str(error))
                    continue
                config[key] = str(found)
                if key == "key" and mode & _OTHERS_CAN_READ:
                    report.warn(path, f"others can read this key; run: chmod 600 {shlex.quote(str(found))}")


def _find(file: str, key: str, folder: Path) -> tuple[Path, int]:
    """The file's absolute path and its mode.

    Raises:
        ValueError: the end of a sentence that starts with the file's name.
    """
    if file.startswith("~"):
        raise ValueError("starts with ~, which is not expanded here; write ${HOME}")
    places = [Path(os.path.normpath(place / file)) for place in _places(folder)]
    for place in dict.fromkeys(places):
        try:
            content, mode = read_small_file(place, bytes_max=FILE_BYTES_MAX)
        except FileNotFoundError:
            continue
        pattern, lack = _KINDS[key]
        if not pattern.search(content):
            raise ValueError(lack)
        return place, mode
    looked = " or ".join(dict.fromkeys(str(place.parent) for place in places))
    raise ValueError(f"is not there; put it into {looked}, or give its whole path")


def _places(folder: Path) -> tuple[Path, ...]:
    return folder, folder / CERTIFICATES_FOLDER, folder.parent / CERTIFICATES_FOLDER
