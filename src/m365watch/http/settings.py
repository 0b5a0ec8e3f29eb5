"""How servers are reached and connections secured, as values; the keys of `network` in a configuration."""

# Annotations stay objects here (`sections.Section` says why).

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.common.secret import Secret
from m365watch.common.sections import DESTINATION, FilePath, Number, SecretText, Section, listed
from m365watch.common.urls import split_url

DIRECTLY = "none"
"""What `proxy` holds where servers are reached directly, whatever the environment says."""

HOSTS_MAX = 100
"""The most hosts of one `no_proxy`."""


def parse_proxy(text: str) -> str:
    """The proxy as `scheme://host:port`, or `DIRECTLY`; raises ValueError for anything else."""
    if text.strip().lower() == DIRECTLY:
        return DIRECTLY
    if "@" in text:
        raise ValueError("has a user name in it; give it as proxy_username, and proxy_password or its file")
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower().startswith("socks"):
        raise ValueError("is a SOCKS proxy, which is not supported; give an HTTP proxy, http://host:port")
    parts = split_url(text if separator else f"http://{text}")
    host, port = parts.hostname or "", parts.port
    beyond = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or not _is_host(host) or port == 0 or beyond:
        raise ValueError("is no proxy address")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{port or (443 if parts.scheme == 'https' else 80)}"


def _is_host(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _parse_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Each host by itself, in lower case; "a, b" counts as two."""
    found = [one.strip().lower() for text in hosts for one in text.split(",") if one.strip()]
    for host in found:
        if "/" in host or "@" in host or not _is_host(host):
            raise ValueError(f"has {host!r} in it, which is no host; give names such as .example.com")
    if len(found) > HOSTS_MAX:
        raise ValueError(f"has more than {HOSTS_MAX} hosts; give domains such as .example.com")
    return tuple(found)


def _parse_own_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """The addresses as they are written shortest; one of each kind at most."""
    found = []
    for address in addresses:
        try:
            found.append(ipaddress.ip_address(address.strip()))
        except ValueError:
            raise ValueError(f"has {address!r} in it, which is no IP address") from None
    if len({one.version for one in found}) < len(found):
        raise ValueError("has two addresses of one kind; give one IPv4 and one IPv6 address at most")
    return tuple(map(str, found))


def _number_as_text(value: object) -> object:
    """YAML reads an unquoted 1.2 as a number."""
    return str(value) if isinstance(value, float) else value


def _is_single_line(text: str) -> str:
    if ":" in text:
        raise ValueError("has a colon, which no user name of a proxy has")
    return text


class NetworkSettings(Section):
    """How the servers of Microsoft, and outputs that speak HTTP, are reached.

    Outputs that speak another protocol have keys of their own. A server on this machine
    itself (loopback) is never reached through a proxy.
    """

    proxy: Annotated[Annotated[str, AfterValidator(parse_proxy)] | None, DESTINATION] = Field(
        default=None, title="http://host:port, https://host:port, or none"
    )
    """The HTTP proxy; `https://` where the way to the proxy itself is encrypted. It wins over the variables
    HTTPS_PROXY, HTTP_PROXY and NO_PROXY, which hold where it is left out; `none` goes without a proxy,
    whatever they say."""

    proxy_username: Annotated[str, Field(min_length=1), AfterValidator(_is_single_line)] | None = Field(
        default=None, title="the user name at the proxy"
    )
    """Who the collector is to the proxy (Basic authentication)."""

    proxy_password: SecretText | None = Field(
        default=None, title="the password in quotes, or ${NAME}, or the key proxy_password_file"
    )
    """The password to that name, or `${NAME}` to take it from the environment."""

    proxy_password_file: FilePath | None = Field(
        default=None, title="the path of a file that only its owner may read"
    )
    """A file that holds the password, in place of `proxy_password`."""

    no_proxy: Annotated[
        tuple[str, ...], BeforeValidator(listed), AfterValidator(_parse_hosts), DESTINATION
    ] = Field(default=(), title="a host, or a list of hosts")
    """Hosts that are reached directly: `example.com` and `.example.com` stand for the domain and all below
    it, `*` for every host."""

    ca_bundle: Annotated[FilePath | None, DESTINATION] = Field(
        default=None, title="the path of a file, or of a folder, with certificates"
    )
    """The authorities whose certificates are trusted, in place of the system's: one file with any number of
    PEM certificates (or one in DER), or a folder of such files. Left out: those of the system, or those of
    the file that the variable SSL_CERT_FILE names."""

    bind_address: Annotated[
        tuple[str, ...], BeforeValidator(listed), AfterValidator(_parse_own_addresses)
    ] = Field(default=(), title="an IP address of this machine, or a list of an IPv4 and an IPv6 address")
    """The address that connections come from, where a firewall or a conditional access policy of the tenant
    knows only that one. Servers are then reached by addresses of the same kind alone. Left out, the system
    chooses."""

    connect_timeout_in_seconds: Number = Field(
        default=30.0, ge=0.1, le=600, title="a number of seconds, 0.1 to 600"
    )
    """How long it may take until a request can be sent: name, connection, proxy and TLS together."""

    read_timeout_in_seconds: Number = Field(
        default=60.0, ge=0.1, le=900, title="a number of seconds, 0.1 to 900"
    )
    """How long an answer may bring no byte at all; one that goes on, however slowly, may take 15 minutes."""

    tls_minimum: Annotated[Literal["1.2", "1.3"], BeforeValidator(_number_as_text), DESTINATION] = Field(
        default="1.2", title="1.2 or 1.3"
    )
    """The oldest version of TLS that is spoken. Older ones than 1.2 never are."""


UNSET_NETWORK = NetworkSettings.model_construct()
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
