"""How a server's certificate is verified, and which versions of TLS are spoken."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from m365watch.common.errors import SettingsRefused
from m365watch.http.settings import NetworkSettings
from m365watch.http.tls import check_authorities, trust_authorities

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
