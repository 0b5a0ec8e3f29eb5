"""What a run is told to do, resolved and checked; `config.load` makes it from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from m365watch.model import Service, TenantId


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that no `repr`, log line or traceback shows."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """The secret itself, for the one call that sends it."""
        return self._value

    def __repr__(self) -> str:
        """Stars, whatever the secret."""
        return "Secret(***)"


@dataclass(frozen=True, slots=True)
class Cloud:
    """The hosts of one Microsoft cloud, without a trailing slash."""

    name: str
    login_url: str
    management_url: str
    audience: str
    """The `resource` that a token is asked for; the management host unless set."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """One service of one tenant."""

    service: Service
    start_at: datetime | None
    """`start_time_in_utc`: only content created from here on is collected; None: all that is served."""
    override_tag: str | None
    request_period_s: float
    bloom_filter_size: int | None
    bloom_filter_buffer_size: int | None


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """One tenant that is collected; several may come from one input."""

    input_name: str
    input_id: str
    tenant_id: TenantId
    client_id: str
    client_secret: Secret
    cloud: Cloud
    publisher_id: str
    services: tuple[ServiceSettings, ...]
    """The enabled services, `uri_retry` left out."""
    requests_per_minute: int | None
    """None: no budget (a custom cloud without `requests_limits`)."""
    lookback_s: float


@dataclass(frozen=True, slots=True)
class LakeSettings:
    """Output `lake`: Delta tables below `directory`."""

    name: str
    directory: Path


@dataclass(frozen=True, slots=True)
class FilesSettings:
    """Output `files`: NDJSON, one folder per table below `directory`."""

    name: str
    directory: Path
    compression: str
    """none, gzip or zstd."""
    rotate_bytes: int
    rotate_s: float


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """Output `console`: verbatim records on standard output, one a line."""

    name: str


OutputSettings = LakeSettings | FilesSettings | ConsoleSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """One configuration file, resolved: defaults filled in, paths absolute, secrets read."""

    path: Path
    collector_name: str
    state_directory: Path
    debug: bool
    tenants: tuple[TenantSettings, ...]
    outputs: tuple[OutputSettings, ...]
    warnings: tuple[str, ...]
    """Odd but usable things, one line each, to be shown at start."""

    @property
    def lake_directory(self) -> Path | None:
        """Where `query` reads; None if no output is a lake."""
        for output in self.outputs:
            if isinstance(output, LakeSettings):
                return output.directory
        return None
