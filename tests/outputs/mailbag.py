"""A kind of output that is not of this package: a bag for each batch, handed over with a token."""

# Annotations stay objects here, for pydantic.

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from m365watch.common.model import Batch, Receipt
from m365watch.config.models.base import DESTINATION, FilePath, FolderPath, SecretText, Section
from m365watch.config.models.outputs import OutputSection
from m365watch.http.settings import NetworkSettings
from m365watch.registry.checks import Check, Checked, good
from m365watch.registry.output_specs import BuildContext, CheckContext, OutputSpec


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


class MailbagSection(OutputSection):
    """Bags at a post office."""

    type: Literal["mailbag", "bag"] = Field(title="mailbag or bag")
    """The kind of output."""

    config: MailbagConfig = Field(title="an object with office and token")
    """The options of the output."""

    @property
    def place(self) -> str:
        return f"bags at {self.config.office}"

    @property
    def http_route(self) -> tuple[str, NetworkSettings]:
        return self.config.office, NetworkSettings()

    @property
    def waits_on_disk(self) -> bool:
        return True


class Mailbag:
    """Holds what it was given."""

    needs_wide_headers = False
    batches_at_once_max = 1
    waits_on_disk = True

    def __init__(self, settings: MailbagSection) -> None:
        self.name = settings.name
        self.bags: list[list[bytes]] = []

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        return last_batch

    async def deliver(self, batch: Batch) -> Receipt:
        self.bags.append([record for part in batch.parts for record in part.records])
        return Receipt()

    async def flush(self) -> None: ...

    async def close(self) -> None: ...


def _build(settings: MailbagSection, _: BuildContext) -> Mailbag:
    return Mailbag(settings)


async def _check(settings: MailbagSection, _: CheckContext) -> Sequence[Checked]:
    return [good(Check.OUTPUT, f"{settings.config.office} is open", subject=settings.name)]


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
