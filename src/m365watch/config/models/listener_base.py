"""What listens: the receiver of notifications, and the board. Part of `settings`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m365watch.common.secret import Secret
from m365watch.http.settings import NetworkSettings


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """The receiver of Microsoft's notifications."""

    address: str
    """What Microsoft is told, without the tenant at its end."""
    host: str
    port: int
    auth_id: Secret
    certificate: Path | None = None
    """PEM, with its chain; None: a proxy has it."""
    key: Path | None = None
    key_password: Secret | None = None
    requests_per_minute: int = 600


@dataclass(frozen=True, slots=True)
class GrantSettings:
    """What one app role, or one group, of Entra may do on the board."""

    claim: str
    """The value of the app role, or the id of the group."""
    role: str
    """viewer, analyst or admin."""
    tenants: tuple[str, ...] = ()
    """Ids in lower case; empty: all tenants."""
    contents: bool = True


@dataclass(frozen=True, slots=True)
class EntraSignInSettings:
    """Signing in with Entra."""

    issuer: str
    """Without a slash at its end."""
    client_id: str
    client_secret: Secret
    grants: tuple[GrantSettings, ...]
    network: NetworkSettings


@dataclass(frozen=True, slots=True)
class BoardSettings:
    """Where the board is served, and to whom."""

    listen: str = "127.0.0.1:8365"
    address: str = ""
    """Where browsers reach it, without a slash at its end; empty: where it listens."""
    certificate: Path | None = None
    """PEM, with its chain."""
    key: Path | None = None
    key_password: Secret | None = None
    proxies: tuple[str, ...] = ()
    """Networks of the proxies that requests come through; empty: there is none."""
    proxy_headers: tuple[str, ...] = ()
    """The headers of theirs that count, in lower case."""
    asks_everybody: bool = False
    """Whether loopback has to sign in as well."""
    idle_s: float = 3_600.0
    session_s: float = 43_200.0
    entra: EntraSignInSettings | None = None
