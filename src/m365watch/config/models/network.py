"""The sections `network` of a configuration: of the whole collector, and of a single input."""

# Annotations stay objects here (`base.Section` says why).

import os
from pathlib import Path

from m365watch.config.config_file import Places
from m365watch.config.document import NETWORK_OF_ALL, Document, networks_in, section_at
from m365watch.config.validation_report import KeyPath, Report
from m365watch.http.settings import DIRECTLY, NetworkSettings

_OF_PROXY = {"proxy_username", "proxy_password", "proxy_password_file"}
"""Keys that belong to one proxy, and are never told to another."""


def check_networks(document: Document, *, places: Places, report: Report, reads: bool = True) -> None:
    """Refuse what does not go together, and set every `ca_bundle` to an absolute path, in place.

    Where `reads` is false the certificates are left alone.
    """
    around = section_at(document, *NETWORK_OF_ALL)
    for path in networks_in(document):
        section = section_at(document, *path)
        _check_proxy(section, path, around, report)
        bundle, key = section.get("ca_bundle"), (*path, "ca_bundle")
        if (
            isinstance(bundle, str)
            and bundle.strip()
            and not bundle.startswith("~")
            and key not in report.mistakes
        ):
            found = Path(os.path.normpath(places.folder_of(path) / bundle))
            section["ca_bundle"] = str(found)
            if reads:
                _check_bundle(found, bundle, key, report)


def _check_bundle(found: Path, written: str, path: KeyPath, report: Report) -> None:
    from m365watch.http.tls import check_authorities

    try:
        check_authorities(found)
    except ValueError as error:
        report.refuse_value(path, written, str(error))


def _check_proxy(section: Document, path: KeyPath, around: Document, report: Report) -> None:
    """Refuse a user without a proxy, and a password without a user."""
    shared = {} if section.get("proxy") is not None else around
    proxy = section.get("proxy", shared.get("proxy"))
    has_proxy = isinstance(proxy, str) and proxy.strip().lower() != DIRECTLY
    given = {key for key in _OF_PROXY if section.get(key) is not None}
    if "proxy_password_file" in given:
        # The secret itself was put beside its file already.
        given.discard("proxy_password")
    for key in sorted(given):
        if not has_proxy:
            report.refuse((*path, key), "is given without a proxy; give proxy beside it, or remove the key")
    user = section.get("proxy_username", shared.get("proxy_username"))
    if has_proxy and user is None and given:
        report.refuse((*path, "proxy_username"), f"is missing; {min(given)} needs it")


class InputNetworkSection(NetworkSettings):
    """The keys of `globals.network`, for what is otherwise with the tenants of this input.

    Each key that is given here wins over the one there. An input that names a `proxy` of its own names that
    one's user and password as well.
    """


def overlaid(around: NetworkSettings, own: NetworkSettings | None) -> NetworkSettings:
    """The section of the whole collector, with what an input has of its own."""
    if own is None:
        return around
    given = own.model_dump(include=own.model_fields_set)
    if own.proxy is not None:
        # Whoever the collector is to one proxy is nobody else's business.
        given = dict.fromkeys(_OF_PROXY) | given
    return around.model_copy(update=given)
