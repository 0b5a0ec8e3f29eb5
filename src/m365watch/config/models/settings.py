"""What a run is told to do, resolved and checked; `config.load` makes it from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from m365watch.common.model import Service, TenantId
from m365watch.config.models.clouds import Cloud
from m365watch.config.models.detections import DETECTIONS, DetectionsSection
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.registry.output_specs import LAKE

if TYPE_CHECKING:
    from m365watch.config.models.credentials import CredentialSettings
    from m365watch.config.models.inputs import MaskSection
    from m365watch.config.models.listeners import BoardSection
    from m365watch.config.models.outputs import OutputSection
    from m365watch.config.models.webhook import WebhookSection


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
    masks: tuple[MaskSection, ...] = ()
    """`obfuscation_data`: what is masked in every record of the service, before any output sees it."""
    requests_per_minute: int | None = None
    """The service's own limit inside its tenant's budget; None: it shares that budget only."""
    announcements: tuple[str, ...] = ()
    """Of `service_health`: overviews, issues, messages; empty for every other service."""


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """One tenant that is collected; several may come from one input."""

    input_name: str
    input_id: str
    tenant_id: TenantId
    client_id: str
    """The application's; empty where a managed identity reads by itself."""
    credentials: tuple[CredentialSettings, ...]
    """What the application may prove itself with, tried in this order; at least one."""
    cloud: Cloud
    publisher_id: str
    services: tuple[ServiceSettings, ...]
    """The enabled services, `uri_retry` left out."""
    requests_per_minute: int | None
    """None: no budget (a custom cloud without `requests_limits`)."""
    lookback_s: float
    environment: str | None = None
    """Devo's `@devo_environment` of the input's records."""
    network: NetworkSettings = UNSET_NETWORK
    """How its token, its API and its Graph are reached."""
    outputs: tuple[str, ...] = ()
    """The outputs that its records go to; empty: all."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One configuration file, resolved: defaults filled in, paths absolute, secrets read."""

    path: Path
    collector_name: str
    state_directory: Path
    debug: bool
    tenants: tuple[TenantSettings, ...]
    outputs: tuple[OutputSection, ...]
    warnings: tuple[str, ...]
    """Odd but usable things, one line each, to be shown at start."""
    job_id: str | None = None
    """`globals.id`: the number of the job on Devo's collector server."""
    answer_bytes_max: int = 256 * 1024 * 1024
    queue_bytes_max: int = 1024 * 1024 * 1024
    """How much may wait on disk for each output."""
    stats_period_s: float = 300.0
    """How often the senders report their figures, and how long the collector is never silent for."""
    collector_image: str | None = None
    """The variable COLLECTOR_IMAGE: the image of the container that this runs in."""
    keeps_state: bool = True
    """False: the state is in a temporary folder that goes at the end (`persistence.type: memory`)."""
    network: NetworkSettings = UNSET_NETWORK
    """`globals.network`, for whatever belongs to no tenant."""
    watches_configuration: bool = True
    """Whether a run takes up changes of its file by itself."""
    webhook: WebhookSection | None = None
    """`globals.webhook`; None: it is left out or switched off, and there is only polling."""
    detections: DetectionsSection = field(default_factory=DetectionsSection)
    """The rules that every record goes past."""
    board: BoardSection | None = None
    """The section `board`; None: there is none, and the pages are for this machine alone."""

    @property
    def receivers(self) -> tuple[str, ...]:
        """The names under which the ledger keeps who gets the records: the outputs, and the detections."""
        names = tuple(output.name for output in self.outputs)
        return (*names, DETECTIONS) if self.detections.enabled else names

    @property
    def excluded_outputs(self) -> dict[TenantId, frozenset[str]]:
        """The outputs that are not for a tenant, of each tenant that has not all."""
        every = frozenset(output.name for output in self.outputs)
        return {one.tenant_id: every - {*one.outputs} for one in self.tenants if one.outputs}

    @property
    def lake_directory(self) -> Path | None:
        """Where `query` reads; None if no output is a lake."""
        for output in self.outputs:
            if output.type == LAKE:
                return output.folder
        return None
