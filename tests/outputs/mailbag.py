"""A kind of output that is not of this package: a bag for each batch, handed over with a token."""

# Annotations stay objects here, for pydantic.

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from m365watch.common.model import Batch, Receipt
from m365watch.common.secret import Secret
from m365watch.config.config_file import absolute
from m365watch.config.models.base import DESTINATION, FilePath, FolderPath, SecretText, Section
from m365watch.config.models.globals import GlobalOverrides
from m365watch.config.models.outputs import OutputSection
from m365watch.http.settings import NetworkSettings
from m365watch.registry.checks import Check, Checked, good
from m365watch.registry.output_specs import BuildContext, CheckContext, OutputSettings, OutputSpec


class MailbagConfig(Section):
    """Options of an output of type `mailbag`."""

    office: Annotated[str, DESTINATION] = Field(title="the URL of a post office")
    """Where the bags are handed over."""

    token: SecretText = Field(title="the token, or the key token_file")
    """Shown at the counter."""

    token_file: FilePath | None = Field(default=None, title="the path of a file that only its owner may read")
    """A file that holds the token."""

    directory: FolderPath = Field(default=Path("bags"), title="a path")
    """Where bags wait."""


@dataclass(frozen=True, slots=True)
class MailbagSettings(OutputSettings):
    """Bags."""

    type: ClassVar[str] = "mailbag"
    office: str
    token: Secret
    directory: Path

    @property
    def place(self) -> str:
        return f"bags at {self.office}"

    @property
    def folder(self) -> Path:
        return self.directory

    @property
    def http_route(self) -> tuple[str, NetworkSettings]:
        return self.office, NetworkSettings()

    @property
    def waits_on_disk(self) -> bool:
        return True


class MailbagSection(OutputSection):
    """Bags at a post office."""

    type: Literal["mailbag", "bag"] = Field(title="mailbag or bag")
    """The kind of output."""

    config: MailbagConfig = Field(title="an object with office and token")
    """The options of the output."""

    def resolve(self, name: str, *, folder: Path, overall: GlobalOverrides) -> MailbagSettings:
        config = self.config
        token = Secret(config.token.get_secret_value())
        return MailbagSettings(name, config.office, token, absolute(folder, config.directory))


class Mailbag:
    """Holds what it was given."""

    needs_wide_headers = False
    batches_at_once_max = 1
    waits_on_disk = True

    def __init__(self, settings: MailbagSettings) -> None:
        self.name = settings.name
        self.bags: list[list[bytes]] = []

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        return last_batch

    async def deliver(self, batch: Batch) -> Receipt:
        self.bags.append([record for part in batch.parts for record in part.records])
        return Receipt()

    async def flush(self) -> None: ...

    async def close(self) -> None: ...


def _build(settings: MailbagSettings, _: BuildContext) -> Mailbag:
    return Mailbag(settings)


async def _check(settings: MailbagSettings, _: CheckContext) -> Sequence[Checked]:
    return [good(Check.OUTPUT, f"{settings.office} is open", subject=settings.name)]


SPEC = OutputSpec(
    type="mailbag",
    aliases=("bag",),
    summary="a bag for each batch",
    section=MailbagSection,
    build=_build,
    check=_check,
    template='type: mailbag\nconfig:\n  office: "<office>"\n  token: "<token>"\n',
    prompts={"office": None, "token_file": None},
)
