"""Output `devo_http`: Devo's HTTP endpoint with a token."""

# Annotations stay objects here (`config.models.base.Section` says why).

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field
from yarl import URL

from m365watch.common.errors import CollectorError
from m365watch.config.models.base import DESTINATION, BaseUrl, FilePath, SecretText, Whole
from m365watch.config.models.wire_values import parse_url_part
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.outputs.network.options import WAIT, TagKeys
from m365watch.outputs.network.settings import AT_DEVO, TaggedOutput
from m365watch.registry.checks import AWAY_FIX, Check, Checked, bad, good, odd
from m365watch.registry.output_specs import (
    BuildContext,
    CheckContext,
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


class DevoHttpSection(TaggedOutput):
    """Devo's HTTP endpoint: one request for each table of a batch, acknowledged by its answer."""

    type: Literal["devo_http"] = Field(title="devo_http")
    """The kind of output."""

    config: DevoHttpConfig = Field(title="an object with endpoint, domain and token")
    """The options of the output."""

    _network: NetworkSettings = UNSET_NETWORK

    @property
    def place(self) -> str:
        """The endpoint."""
        return self.config.endpoint

    @property
    def http_route(self) -> tuple[str, NetworkSettings]:
        """The endpoint."""
        return self.config.endpoint, self._network

    @property
    def personal_data(self) -> Sequence[PersonalData]:
        """What Devo has."""
        return (PersonalData(self.place, AT_DEVO),)

    def with_network(self, network: NetworkSettings) -> Self:
        """The same, told how the endpoint is reached."""
        return self.told(_network=network)


def _build(settings: DevoHttpSection, context: BuildContext) -> Output:
    from m365watch.outputs.devo_http.devo_http_output import DevoHttpOutput

    return DevoHttpOutput(settings, clock=context.clock)


async def _check(settings: DevoHttpSection, context: CheckContext) -> Sequence[Checked]:
    """The way to the endpoint, and then whether it takes the token.

    Only a post shows that: it gets the notice that a run posts when it starts, if notices are sent at all.
    """
    from m365watch.outputs.devo_http.devo_http_output import DevoHttpOutput

    broken = await context.reach(*settings.http_route)
    if broken is not None:
        return [bad(Check.OUTPUT, broken.seen, fix=broken.fix or AWAY_FIX, subject=settings.name)]
    host = URL(settings.config.endpoint).host
    if not settings.sends_events:
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
