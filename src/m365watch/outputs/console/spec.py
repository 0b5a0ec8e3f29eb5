"""Output `console`: each record on standard output."""

# Annotations stay objects here (`config.models.base.Section` says why).

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from m365watch.config.models.base import DEFAULTS, NO_EFFECT, OBJECT, Section
from m365watch.config.models.outputs import OutputSection
from m365watch.registry.checks import Check, Checked, good
from m365watch.registry.output_specs import BuildContext, CheckContext, OutputSpec, PersonalData
from m365watch.registry.outputs import Output


class ConsoleConfig(Section):
    """Options of an output of type `console`."""

    destination: Annotated[str | None, NO_EFFECT] = Field(default=None, title="a text")
    """Records always go to standard output."""


class ConsoleSection(OutputSection):
    """The records themselves on standard output, one a line."""

    type: Literal["console", "stdout"] = Field(title="console or stdout")
    """The kind of output."""

    config: ConsoleConfig = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """The options of the output."""

    @property
    def place(self) -> str:
        """That of the process."""
        return "standard output"

    @property
    def uses_stdout(self) -> bool:
        """Each record is a line there."""
        return True

    @property
    def personal_data(self) -> Sequence[PersonalData]:
        """Nothing is kept here."""
        return (PersonalData(self.place, "what was printed is with whoever read it"),)


def _build(settings: ConsoleSection, _: BuildContext) -> Output:
    from m365watch.outputs.console.console_output import ConsoleOutput

    return ConsoleOutput(settings)


async def _check(settings: ConsoleSection, _: CheckContext) -> Sequence[Checked]:
    return [good(Check.OUTPUT, "the standard output of `m365watch run`", subject=settings.name)]


SPEC = OutputSpec(
    type="console",
    aliases=("stdout",),
    summary="each record on standard output",
    section=ConsoleSection,
    build=_build,
    check=_check,
    template="type: console\n",
)
