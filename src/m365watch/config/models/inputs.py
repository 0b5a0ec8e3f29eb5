"""The keys of `inputs`: what is collected, of whom, and what is masked in it."""

# Annotations stay objects here (`base.Section` says why).

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Discriminator, Field, Tag, model_validator

from m365watch.config.models import values
from m365watch.config.models.base import (
    DESTINATION,
    NO_EFFECT,
    OBJECT,
    ON_OFF,
    BaseUrl,
    Guid,
    Instant,
    Label,
    Names,
    Number,
    PeriodSecs,
    Section,
    Switch,
    Whole,
    listed,
)
from m365watch.config.models.credentials import Credentials
from m365watch.config.models.field_types import PATTERN_CHARACTERS_MAX, parse_pattern
from m365watch.config.models.network import InputNetworkSection

MASKS_MAX = 100
"""The most rules of one `obfuscation_data`."""
_FILTER_SIZE = "a whole number, 1 to 1,000,000,000"


class RequestsLimit(Section):
    """One limit of `requests_limits`."""

    period: PeriodSecs = Field(title='a length of time such as "1m", "1h" or "1d"')
    """The span that the limit is for; s, m, h, d, w, M (30 days) and y are known."""

    number_of_requests: Whole = Field(ge=-1, le=100_000_000, title="a whole number, or -1 for no limit")
    """How many requests may be made in each such span."""


RequestsLimits = tuple[RequestsLimit, ...]


class MaskSection(Section):
    """One rule of `obfuscation_data`: which value of a record is masked, and what stands in its place."""

    name: Annotated[tuple[Label, ...], Field(min_length=1, max_length=20)] = Field(
        title='a list of keys from the record\'s top, "*" for any key or place'
    )
    """The way to the value: `["ExchangeMetaData", "Subject"]`, or `["Parameters", "*", "Value"]`."""

    value: str = Field(default="***", title="a text")
    """What stands in place of the value, or of what `string_patterns` match in it."""

    string_patterns: Annotated[
        tuple[Annotated[str, AfterValidator(parse_pattern)], ...], Field(max_length=MASKS_MAX)
    ] = Field(
        default=(),
        title=f"a list of regular expressions of at most {PATTERN_CHARACTERS_MAX} characters each",
    )
    """Only what one of these matches is replaced, and only in texts; left out, the whole value is. They are
    written as for Python's package `regex`, which knows all that Python's `re` does. A value that a pattern
    takes longer than 50 ms over is masked whole. One that matches the empty text is refused."""


Masks = Annotated[tuple[MaskSection, ...], Field(max_length=MASKS_MAX)]


class ServiceSection(Section):
    """One service of `services`."""

    enabled: Switch = Field(default=True, title=ON_OFF)
    """Whether the service is collected; a service that is switched off is not read further."""

    start_time_in_utc: Instant | None = Field(default=None, title="an instant such as 2026-11-17T00:00:00Z")
    """Collects only content created from here on; left out, all that the service still serves (7 days).
    It is compared with the time at which Microsoft made the content available, never with the time at
    which something happened in the tenant."""

    request_period_in_seconds: Whole = Field(
        default=300, ge=1, le=86_400, title="a whole number of seconds, 1 to 86,400"
    )
    """How often new content is asked for."""

    override_tag: Annotated[str, AfterValidator(values.parse_tag_template)] | None = Field(
        default=None,
        title='a Devo tag of 2 to 6 levels of letters, digits, "_", "-", {workload} and {operation}, '
        "joined by dots",
    )
    """The table for every record of the service, in place of the one that each record's Workload names.
    `{workload}` and `{operation}` stand for those of the record, in lower case and fit for a tag."""

    override_bloom_filter_size: Whole | None = Field(default=None, ge=1, le=1_000_000_000, title=_FILTER_SIZE)
    """Sizes the filter in front of the exact store of identities: for so many records, at about a byte of
    memory each, 2 % of the look-ups for new records are made in vain. A false positive costs a
    look-up, never a record: every hit is confirmed in the store. Left out, the filter has room for 4,000,000,
    grows with the store, and is made once it pays."""

    override_bloom_filter_buffer_size: Whole | None = Field(
        default=None, ge=1, le=1_000_000_000, title=_FILTER_SIZE
    )
    """How many new identities are kept in memory before they go into the store together (10,000 at
    least); each costs about 100 bytes there. It changes speed and memory, never what is found."""

    requests_per_second: Number | None = Field(default=None, gt=0, le=10_000, title="a number above 0")
    """How many requests a second the service gets of its tenant's budget, on average over a minute."""

    requests_limits: RequestsLimits = Field(default=(), title="a list of limits")
    """How many requests the service gets of its tenant's budget; the tightest limit holds, spread evenly."""

    use_time_slots_for_retrievals: Annotated[Switch | None, NO_EFFECT] = Field(default=None, title=ON_OFF)
    """Windows are always planned without gaps."""

    retries: Annotated[Whole | None, NO_EFFECT] = Field(default=None, title="a whole number")
    """Failed requests are retried for as long as the service serves the content."""

    obfuscation_data: Masks = Field(default=(), title="a list of rules with name and value")
    """What is masked in each record of the service before any output sees it, beside the input's rules."""


class DlpSection(ServiceSection):
    """The service `dlp` of `services`: what every service takes, and one key more."""

    obfuscate_detected_values: Switch = Field(default=True, title=ON_OFF)
    """Whether the sensitive values that a DLP rule found, and the text around them, are masked with `***`.
    They are in the records only if the application has the permission `ActivityFeed.ReadDlp`."""


class HealthSection(ServiceSection):
    """The service `service_health` of `services`: what every service takes, and one key more."""

    announcements: Annotated[
        tuple[Literal["overviews", "issues", "messages"], ...], BeforeValidator(listed), Field(min_length=1)
    ] = Field(
        default=("overviews", "issues", "messages"),
        title="a list of overviews, issues and messages",
    )
    """Which announcements are collected: how each service stands (`overviews`), incidents and advisories
    (`issues`), and what the message center says of changes (`messages`). The first two need the permission
    `ServiceHealth.Read.All` of Microsoft Graph, the last one `ServiceMessage.Read.All`."""


class Services(Section):
    """What is collected of a tenant; a service that is named without options has the defaults."""

    azure_active_directory: ServiceSection | None = Field(default=None, title=OBJECT)
    """Content type Audit.AzureActiveDirectory: sign-ins and changes of the directory."""

    exchange: ServiceSection | None = Field(default=None, title=OBJECT)
    """Content type Audit.Exchange: mailboxes and their administration."""

    sharepoint: ServiceSection | None = Field(default=None, title=OBJECT)
    """Content type Audit.SharePoint: SharePoint and OneDrive."""

    general_audit: ServiceSection | None = Field(default=None, title=OBJECT)
    """Content type Audit.General: Teams, Defender, Power BI and every other workload."""

    dlp: DlpSection | None = Field(default=None, title=OBJECT)
    """Content type DLP.All: matches of data loss prevention rules."""

    service_health: HealthSection | None = Field(default=None, title=OBJECT)
    """Service health and the message center, from Microsoft Graph. It is collected only where it is named,
    for it needs permissions of Graph. Each state of a service, each change of an issue and each message is
    one record, of the table `cloud.office365.management` unless `override_tag` names another."""

    uri_retry: ServiceSection | None = Field(default=None, title=OBJECT)
    """Devo's switch for the retries of failed fetches; here they are always retried, named or not."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, given: object) -> object:
        """A service that is named without options is switched on with the defaults."""
        if not isinstance(given, dict):
            return given
        return {k: {} if v is None and k in cls.model_fields else v for k, v in given.items()}


def _cloud_kind(given: object) -> str:
    if isinstance(given, dict):
        return "|NamedCloudSection" if "name" in given else "|CloudSection"
    return f"|{type(given).__name__}" if isinstance(given, BaseModel) else "|name"


CloudName = Literal["worldwide", "gcc", "gcc-high", "dod", "china"]
_CLOUD_NAMES = "worldwide, gcc, gcc-high, dod or china"


class NamedCloudSection(Section):
    """One of Microsoft's clouds, where something of it is to be otherwise."""

    name: CloudName = Field(title=_CLOUD_NAMES)
    """The cloud whose hosts are used as far as no other key names another."""

    audience: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, title="the resource that tokens are asked for"
    )
    """The resource that tokens are asked for; left out, the cloud's management host. Who is refused in `gcc`
    with AADSTS500011 tries `https://manage.office.com`: reports differ on what that cloud wants."""

    login_url: BaseUrl | None = Field(default=None, title="an https URL (http for loopback hosts only)")
    """Another login host of the same cloud, such as the older `https://login.windows.net`."""


class CloudSection(Section):
    """A cloud of one's own, in place of the name of one of Microsoft's."""

    login_url: BaseUrl = Field(title="an https URL (http for loopback hosts only)")
    """Where tokens are asked for, without the tenant."""

    management_url: BaseUrl = Field(title="an https URL (http for loopback hosts only)")
    """Where the Management Activity API answers, without `/api/v1.0`."""

    audience: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, title="the resource that tokens are asked for"
    )
    """The resource that tokens are asked for; left out, `management_url`."""

    graph_url: BaseUrl | None = Field(default=None, title="an https URL (http for loopback hosts only)")
    """Where Microsoft Graph answers, without `/v1.0`, and for what its tokens are asked; left out, neither
    `m365watch recover` nor the service `service_health` can be used."""


class AutoConfig(Section):
    """Devo's refresh of services that are not known beforehand."""

    enabled: Switch = Field(default=False, title=ON_OFF)
    """Whether Devo's collector looks for new services."""

    refresh_interval_in_seconds: Whole = Field(default=600, ge=1, title="a whole number of seconds")
    """How often it looks."""

    creation_timeout_in_second: Whole | None = Field(default=None, ge=1, title="a whole number of seconds")
    """How long it waits."""


class InputSection(Section):
    """One application and the tenants that it may read."""

    type: Literal["office365"] | None = Field(default=None, title="office365")
    """What is collected. Left out only by the input that is itself named `office365`."""

    id: Label | None = Field(default=None, title="a short text that no other input has")
    """Tells inputs apart in what the collector reports; left out, the input's name."""

    enabled: Switch = Field(default=True, title=ON_OFF)
    """Whether the input is collected; an input that is switched off is not read further."""

    credentials: Credentials = Field(title="an object with tenant_id, client_id and a credential")
    """The application that reads the audit records."""

    cloud: Annotated[
        Annotated[CloudName, Tag("|name")]
        | Annotated[NamedCloudSection, Tag("|NamedCloudSection")]
        | Annotated[CloudSection, Tag("|CloudSection")],
        Discriminator(_cloud_kind),
        DESTINATION,
    ] = Field(
        default="worldwide",
        title="worldwide, gcc, gcc-high, dod, china, or an object with name, or with login_url and "
        "management_url",
    )
    """The cloud that the tenants are in."""

    token_endpoint: Literal["v1", "v2"] | None = Field(default=None, title="v1 or v2")
    """Which of Entra's token endpoints is asked: v1 (`/oauth2/token`, by `resource`) or v2
    (`/oauth2/v2.0/token`, by `scope`). Left out, v2, and v1 where there is no v2. A certificate signs by
    PS256 with `x5t#S256` for v2, and by RS256 with `x5t` for v1."""

    network: InputNetworkSection | None = Field(default=None, title=OBJECT)
    """How the servers of these tenants are reached, where it is not as `globals.network` says."""

    publisher_identifier: Guid | None = Field(default=None, title="a GUID")
    """The tenant of whoever runs the collector, under which Microsoft counts its requests; left out,
    the collected tenant itself."""

    services: Services | None = Field(default=None, title="an object of services")
    """What is collected; left out, all five kinds of content of the Management Activity API."""

    lookback_secs: Whole = Field(
        default=7_200, ge=0, le=604_800, title="a whole number of seconds, 0 to 604,800"
    )
    """How far before the newest listed content each listing starts again, to catch late content."""

    requests_per_second: Number | None = Field(default=None, gt=0, le=10_000, title="a number above 0")
    """How many requests a second each tenant gets, on average over a minute."""

    requests_limits: RequestsLimits = Field(default=(), title="a list of limits")
    """How many requests each tenant gets; of several limits the tightest holds, spread evenly. Left out:
    2,000 a minute on Microsoft's hosts, no limit on those of a `cloud` of one's own."""

    outputs: Names = Field(default=(), title="a list of names of outputs")
    """The outputs that the records of these tenants go to, by their names below `outputs`; left out, all of
    them. Inputs that share a tenant name the same ones. What an output was to get before it is taken out of
    the list, it still gets."""

    environment: str | None = Field(default=None, title="a text")
    """Goes into each record as `@devo_environment` on its way to an output of Devo's."""

    autoconfig: Annotated[AutoConfig | None, NO_EFFECT] = Field(default=None, title=OBJECT)
    """Services are fixed; there is nothing to look for."""

    retries: Annotated[Whole | None, NO_EFFECT] = Field(default=None, title="a whole number")
    """Failed requests are retried for as long as the service serves the content."""

    obfuscation_data: Masks = Field(default=(), title="a list of rules with name and value")
    """What is masked in each record of the input before any output sees it."""
