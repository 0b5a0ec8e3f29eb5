"""How servers are reached and connections secured, as values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m365watch.common.secret import Secret


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """A proxy that the configuration names."""

    url: str
    """http or https, host and port; nothing else."""
    username: str | None = None
    password: Secret | None = None


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How servers are reached; the defaults are those of a configuration that says nothing of it."""

    proxy: ProxySettings | None = None
    asks_environment: bool = True
    """Whether HTTPS_PROXY, HTTP_PROXY and NO_PROXY hold where there is no `proxy`."""
    no_proxy: tuple[str, ...] = ()
    """Hosts and domains in lower case; "*" for all."""
    ca_bundle: Path | None = None
    """A file or a folder; None: the system's authorities, or those of SSL_CERT_FILE."""
    bind_addresses: tuple[str, ...] = ()
    """One of each kind at most; empty: the system chooses."""
    connect_timeout_s: float = 30.0
    """From the name to the end of the handshake."""
    read_timeout_s: float = 60.0
    """How long an answer may bring no byte."""
    tls_minimum: str = "1.2"
    """1.2 or 1.3."""


UNSET_NETWORK = NetworkSettings()
"""What holds where nobody said anything."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How a connection is secured; there is no unverified way but `verify_hostname`."""

    chain: Path | None
    """The CA certificates to trust; None: those of the system."""
    cert: Path | None
    """The client's certificate; `key` comes with it."""
    key: Path | None
    key_password: Secret | None = None
    verify_hostname: bool = True
    """Whether the server's certificate has to name the address; the chain is verified in any case."""
