"""Output `devo_http`: Devo's HTTP endpoint with a token."""

# Annotations stay objects here (`config.models.base.Section` says why).

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from yarl import URL

from m365watch.common.errors import CollectorError
from m365watch.common.secret import Secret
from m365watch.config.defaults import MEBIBYTE_BYTES
from m365watch.config.models.base import DESTINATION, BaseUrl, FilePath, SecretText, Whole
from m365watch.config.models.globals import GlobalOverrides
from m365watch.config.models.outputs import OutputSection
from m365watch.config.models.wire_values import parse_url_part
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.outputs.network.options import WAIT, TagKeys
from m365watch.outputs.network.settings import TagSettings, at_devo, host_of, is_on, tags_of
from m365watch.registry.checks import AWAY_FIX, Check, Checked, bad, good, odd
from m365watch.registry.output_specs import (
    BuildContext,
    CheckContext,
    OutputSettings,
    OutputSpec,
    PersonalData,
)
from m365watch.registry.outputs import Output


class DevoHttpConfig(TagKeys):
    """Options of an output of type `devo_http`."""

    endpoint: Annotated[BaseUrl, DESTINATION] = Field(title="an https URL (http for loopback hosts only)")
    """Devo's HTTP endpoint, for example https://http-us.devo.io or https://http-eu.devo.io."""

    domain: Annotated[str, AfterValidator(parse_url_part), DESTINATION] = Field(
        title="the name of the Devo domain"
    )
    """The domain that the token is of."""

    token: SecretText = Field(title="the token in quotes, or ${NAME}, or the key token_file")
    """A token of Devo's that may send over HTTP, or `${NAME}` to take it from the environment."""

    token_file: FilePath | None = Field(default=None, title="the path of a file that only its owner may read")
    """A file that holds the token, in place of `token`. A line break at its end is left out."""

    compression: Literal["none", "gzip"] = Field(default="gzip", title="none or gzip")
    """How requests are compressed."""

    request_megabytes_max: Whole = Field(
        default=32, ge=1, le=32, title="a whole number of megabytes, 1 to 32"
    )
    """The largest request before compression, in megabytes of 1,048,576 bytes; Devo takes no more than 32. A
    record beyond it goes to quarantine."""

    timeout_secs: Whole = Field(default=30, ge=1, le=3_600, title=WAIT)
    """How long an answer is waited for."""


@dataclass(frozen=True, slots=True)
class DevoHttpSettings(OutputSettings):
    """Devo's HTTP endpoint with a token."""

    type: ClassVar[str] = "devo_http"
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

    @property
    def place(self) -> str:
        """The endpoint."""
        return self.endpoint

    @property
    def http_route(self) -> tuple[str, NetworkSettings]:
        """The endpoint."""
        return self.endpoint, self.network

    @property
    def waits_on_disk(self) -> bool:
        """Devo may be away for hours."""
        return True

    @property
    def sends_events(self) -> bool:
        """What `collectors_out` says, or else whether Devo reads the lines."""
        return self.sends_notices

    @property
    def override_tags(self) -> tuple[str, ...]:
        """Tags that are used as they are."""
        return self.tags.overrides

    @property
    def personal_data(self) -> Sequence[PersonalData]:
        """What Devo has."""
        return at_devo(self.endpoint)

    def with_override_tags(self, tags: tuple[str, ...]) -> "DevoHttpSettings":
        """Devo is taken to have the tables that somebody names."""
        return replace(self, tags=replace(self.tags, overrides=tags))

    def with_network(self, network: NetworkSettings) -> "DevoHttpSettings":
        """The same, told how the endpoint is reached."""
        return replace(self, network=network)

    def for_alerts(self, name: str, table: str) -> "DevoHttpSettings":
        """The same receiver, which need not know the table beforehand."""
        return replace(self, name=name, tags=self.tags.with_table(table))


class DevoHttpSection(OutputSection):
    """Devo's HTTP endpoint: one request for each table of a batch, acknowledged by its answer."""

    type: Literal["devo_http"] = Field(title="devo_http")
    """The kind of output."""

    config: DevoHttpConfig = Field(title="an object with endpoint, domain and token")
    """The options of the output."""

    @property
    def adds_devo_fields(self) -> bool:
        """Unless that is switched off."""
        return is_on(given=self.config.add_devo_fields, default=True)

    @property
    def sends_events_unasked(self) -> bool:
        """Devo's own collector sends them, too."""
        return self.config.collectors_out is None

    def resolve(self, name: str, *, folder: Path, overall: GlobalOverrides) -> DevoHttpSettings:  # noqa: ARG002
        """The settings of the sender."""
        config = self.config
        return DevoHttpSettings(
            name=name,
            endpoint=config.endpoint,
            domain=config.domain,
            token=Secret(config.token.get_secret_value()),
            host=host_of(config),
            compresses=config.compression == "gzip",
            request_bytes_max=config.request_megabytes_max * MEBIBYTE_BYTES,
            timeout_s=float(config.timeout_secs),
            tags=tags_of(config),
            adds_devo_fields=self.adds_devo_fields,
            sends_notices=is_on(given=config.collectors_out, default=True),
        )


def _build(settings: DevoHttpSettings, context: BuildContext) -> Output:
    from m365watch.outputs.devo_http.devo_http_output import DevoHttpOutput

    return DevoHttpOutput(settings, clock=context.clock)


async def _check(settings: DevoHttpSettings, context: CheckContext) -> Sequence[Checked]:
    """The way to the endpoint, and then whether it takes the token.

    Only a post shows that: it gets the notice that a run posts when it starts, if notices are sent at all.
    """
    from m365watch.outputs.devo_http.devo_http_output import DevoHttpOutput

    broken = await context.reach(settings.endpoint, settings.network)
    if broken is not None:
        return [bad(Check.OUTPUT, broken.seen, fix=broken.fix or AWAY_FIX, subject=settings.name)]
    host = URL(settings.endpoint).host
    if not settings.sends_notices:
        seen = f"{host} answers; its token is tried with the first records, because collectors_out is off"
        return [odd(Check.OUTPUT, seen, subject=settings.name)]
    output = DevoHttpOutput(settings, clock=context.clock)
    try:
        await output.open(last_batch=0, position="")
        trouble = output.trouble
    finally:
        with suppress(CollectorError):
            await output.close()
    if trouble is not None:
        return [bad(Check.OUTPUT, trouble.what, fix=context.cure_of(trouble), subject=settings.name)]
    seen = f"{host} takes the token: one notice is in devo.collectors.out, as at every start"
    return [good(Check.OUTPUT, seen, subject=settings.name)]


SPEC = OutputSpec(
    type="devo_http",
    summary="Devo, by its HTTP endpoint",
    section=DevoHttpSection,
    build=_build,
    check=_check,
    template="""\
type: devo_http
config:
  endpoint: "<https://http-xx.devo.io>"
  domain: "<your domain>"
  token: "<token>"
""",
    prompts={"endpoint": None, "domain": None, "token_file": None},
)
