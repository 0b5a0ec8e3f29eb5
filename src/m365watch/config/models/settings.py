"""What a run is told to do, resolved and checked; `config.load` makes it from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from m365watch.common.model import Service, TenantId
from m365watch.config.models.retention import RetentionSettings

if TYPE_CHECKING:
    from pydantic import SecretStr

    from m365watch.config.models.listeners_listening import BoardSettings, WebhookSettings
    from m365watch.config.models.targets import TargetSettings


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


def secret_of(given: SecretStr | None) -> Secret | None:
    """The secret of a section of the configuration, where it has one."""
    return None if given is None else Secret(given.get_secret_value())


@dataclass(frozen=True, slots=True)
class Cloud:
    """The hosts of one Microsoft cloud, without a trailing slash."""

    name: str
    login_url: str
    management_url: str
    audience: str
    """The `resource` that a token is asked for; the management host unless set."""
    graph_url: str = ""
    """Microsoft Graph; empty where a cloud of one's own names none."""
    token_endpoint: str | None = None
    """v1 or v2; None: v2, and v1 where there is no v2."""


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


ANY_TEXT = "(?s).+"
"""The pattern that matches any text whole."""


@dataclass(frozen=True, slots=True)
class MaskSettings:
    """One rule of `obfuscation_data`."""

    path: tuple[str, ...]
    """Keys from the record's top; "*" stands for every key of an object or every place of an array."""
    value: str
    """What stands in place of the masked text."""
    patterns: tuple[str, ...]
    """Regular expressions: only what they match is replaced; empty: the whole value is."""


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
    masks: tuple[MaskSettings, ...] = ()
    """`obfuscation_data`: what is masked in every record of the service, before any output sees it."""
    requests_per_minute: int | None = None
    """The service's own limit inside its tenant's budget; None: it shares that budget only."""
    announcements: tuple[str, ...] = ()
    """Of `service_health`: overviews, issues, messages; empty for every other service."""


@dataclass(frozen=True, slots=True)
class SecretSettings:
    """The application's own password."""

    secret: Secret
    expires_at: datetime | None = None
    """`client_secret_expires_at`; None: nobody said."""
    file: Path | None = None
    """`client_secret_file`, which is read again whenever a token is asked for; None: the secret stays."""
    name: str = "client_secret"
    """The key below `credentials` that it stands under."""


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """A certificate that is registered on the application, and its key; read when it is used."""

    certificate: Path
    """PEM or DER, or PFX with the key in it."""
    key: Path | None = None
    """PEM; None: it is in the certificate's file, or `key_text`."""
    key_text: Secret | None = None
    """The key itself as PEM, from the environment."""
    password: Secret | None = None
    """Of the key, or of the PFX."""
    audience: str | None = None
    """`assertion_audience`, with {tenant} in it; None: the token endpoint that is called."""
    name: str = "certificate_file"
    """The key below `credentials` that it stands under."""


@dataclass(frozen=True, slots=True)
class FederatedSettings:
    """Another issuer's token, in a file that this issuer keeps fresh."""

    token_file: Path
    name: str = "federated_token_file"
    """The key below `credentials` that it stands under."""


IMDS_URL = "http://169.254.169.254"
"""Azure's Instance Metadata Service: link-local, and plain http by its nature."""


@dataclass(frozen=True, slots=True)
class IdentityEndpoint:
    """Where a machine gives out the tokens of its managed identity."""

    url: str = IMDS_URL
    """Of IMDS without its path; of App Service whole."""
    header: Secret | None = None
    """App Service's own secret, which shows that a request comes from inside; None: this is IMDS."""


@dataclass(frozen=True, slots=True)
class ManagedIdentitySettings:
    """The identity that Azure gives this machine."""

    client_id: str | None = None
    """Of a user-assigned identity; None: the system's own."""
    endpoint: IdentityEndpoint = IdentityEndpoint()
    vouches: bool = False
    """Whether its token stands for another application; otherwise the identity itself reads."""
    name: str = "managed_identity"
    """The key below `credentials` that it stands under."""


CredentialSettings = SecretSettings | CertificateSettings | FederatedSettings | ManagedIdentitySettings


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
class LakeSettings:
    """Output `lake`: Delta tables below `directory`."""

    name: str
    directory: Path
    retention: RetentionSettings = field(default_factory=RetentionSettings)


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


@dataclass(frozen=True, slots=True)
class WireSettings:
    """How a sender without acknowledgement behaves; the defaults are those of Devo's SDK."""

    connections: int = 1
    connecting_retries: int = 5
    connecting_wait_first_s: float = 2.0
    connecting_wait_max_s: float = 60.0
    sending_timeout_s: float = 5.0
    """How long the peer may take nothing at all before the connection counts as broken."""
    sending_retries: int = 5
    sending_wait_first_s: float = 2.0
    sending_wait_max_s: float = 60.0
    retention_bytes: int = 16 * 1024 * 1024
    retention_s: float = 10.0
    """What was sent is kept, to be sent again after a break, until it has been with the peer's system
    for this long or until `retention_bytes` more were taken after it."""
    line_bytes_max: int = 1024 * 1024
    """A line beyond this goes to quarantine."""
    idle_s: float = 60.0
    """A connection without traffic is closed in order after this long."""
    stats_period_s: float = 300.0
    """How often the sender reports its figures."""


@dataclass(frozen=True, slots=True)
class CompressionSettings:
    """Devo's compression of the transport; the defaults are those of its SDK."""

    threshold: float = 1.1
    """Below 0: always; above 1: never; else from this fullness of the queue on (mean of the last 1,000)."""
    level: int = 6
    """1 to 9."""
    buffer_bytes: int = 51_200
    """How much is compressed at once, as one gzip member."""


@dataclass(frozen=True, slots=True)
class TagSettings:
    """Which tags an output of Devo's may use."""

    fallback_tag: str = "cloud.office365.other"
    """The tag of records whose Workload has no table at Devo."""
    known_tables: tuple[str, ...] = ()
    """Tables to know beside those that are built in."""
    overrides: tuple[str, ...] = ()
    """Every `override_tag` of the inputs: what it says is used as it is, placeholders filled in."""


@dataclass(frozen=True, slots=True)
class DevoSettings:
    """Output `devo_platform`: syslog over TLS with a client certificate."""

    name: str
    address: str
    port: int
    tls: TlsSettings
    host: str
    """The host of each line; the machine's name unless set."""
    wire: WireSettings = field(default_factory=WireSettings)
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    tags: TagSettings = field(default_factory=TagSettings)
    adds_devo_fields: bool = True
    """Whether `@devo_pulling_id` and `@devo_environment` are added to each record."""
    sends_notices: bool = True
    """Whether the collector's own events go to `devo.collectors.out`."""


@dataclass(frozen=True, slots=True)
class DevoHttpSettings:
    """Output `devo_http`: Devo's HTTP endpoint with a token."""

    name: str
    endpoint: str
    """https, without a trailing slash; http for loopback hosts only."""
    domain: str
    token: Secret
    host: str
    compresses: bool = True
    request_bytes_max: int = 32 * 1024 * 1024
    """The endpoint's limit, before compression."""
    timeout_s: float = 30.0
    tags: TagSettings = field(default_factory=TagSettings)
    adds_devo_fields: bool = True
    sends_notices: bool = True
    network: NetworkSettings = UNSET_NETWORK


@dataclass(frozen=True, slots=True)
class SyslogSettings:
    """Output `syslog`: RFC 5424 or RFC 3164 over TCP, TLS or UDP."""

    name: str
    address: str
    port: int
    transport: str = "tcp"
    """tcp, tls or udp."""
    format: str = "rfc5424"
    """rfc5424, rfc3164 or devo (the line of `devo_platform`, for Devo's in-house relay)."""
    framing: str = "newline"
    """newline or octet-counting; UDP has one line a datagram."""
    tls: TlsSettings | None = None
    host: str = "-"
    app_name: str = "m365watch"
    """The APP-NAME of RFC 5424 and the TAG of RFC 3164; {table} stands for the record's table."""
    facility: int = 1
    severity: int = 6
    wire: WireSettings = field(default_factory=WireSettings)
    tags: TagSettings = field(default_factory=TagSettings)
    adds_devo_fields: bool = False
    sends_notices: bool = False


OutputSettings = (
    LakeSettings | FilesSettings | ConsoleSettings | DevoSettings | DevoHttpSettings | SyslogSettings
)


DETECTIONS = "detections"
"""The name under which the ledger knows how far the detections are; no output may have it."""


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """The application that carries out the response to an alert."""

    client_id: str
    """Empty where a managed identity acts by itself."""
    credentials: tuple[CredentialSettings, ...]


@dataclass(frozen=True, slots=True)
class EnrichSettings:
    """Files that say more of addresses, people and indicators; absolute paths."""

    databases: tuple[Path, ...] = ()
    tor_lists: tuple[Path, ...] = ()
    vpn_lists: tuple[Path, ...] = ()
    hosting_lists: tuple[Path, ...] = ()
    indicator_lists: tuple[Path, ...] = ()
    vip_lists: tuple[Path, ...] = ()
    admin_lists: tuple[Path, ...] = ()
    vips: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """Which rules look at the records."""

    enabled: bool = False
    packs: tuple[str, ...] = ("core", "devo")
    rules_directories: tuple[Path, ...] = ()
    exceptions_file: Path | None = None
    risk_points: int | None = 50
    """None: no alert is made of what others add up to."""
    accepted_domains: frozenset[str] = frozenset()
    """In lower case."""
    enrich: EnrichSettings = EnrichSettings()
    spared_accounts: frozenset[str] = frozenset()
    """Accounts that no response locks out unless a person says so."""
    response: ResponseSettings | None = None
    """Who carries out what `respond` plans; None: it is printed only."""
    targets: tuple[TargetSettings, ...] = ()
    """Who is told of alerts."""


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
    webhook: WebhookSettings | None = None
    """`globals.webhook`; None: there is only polling."""
    detections: DetectionSettings = DetectionSettings()
    """The rules that every record goes past."""
    board: BoardSettings | None = None
    """The section `board`; None: there is none, and the pages are for this machine alone."""

    @property
    def receivers(self) -> tuple[str, ...]:
        """The names under which the ledger keeps who gets the records: the outputs, and the detections."""
        names = tuple(output.name for output in self.outputs)
        return (*names, DETECTIONS) if self.detections.enabled else names

    @property
    def lake_directory(self) -> Path | None:
        """Where `query` reads; None if no output is a lake."""
        for output in self.outputs:
            if isinstance(output, LakeSettings):
                return output.directory
        return None
