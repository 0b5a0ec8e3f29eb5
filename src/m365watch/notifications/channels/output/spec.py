"""Channel `output`: alerts as records of one of the outputs."""

# Annotations stay objects here (`config.models.base.Section` says why).

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from m365watch.config.document import section_at
from m365watch.config.models.base import Name
from m365watch.config.models.notifications import ChannelSection
from m365watch.config.models.outputs import no_such_output
from m365watch.registry.channel_specs import Channel, ChannelContext, ChannelSpec, Sender
from m365watch.registry.output_specs import LAKE


def _parse_output(name: str, info: ValidationInfo) -> str:
    """The name unchanged, of an output of the document that the context is."""
    outputs = section_at(info.context, "outputs") or {LAKE: {"type": LAKE}}
    if name not in outputs:
        raise ValueError(no_such_output(name, outputs))
    if section_at(outputs, name).get("type") == LAKE:
        raise ValueError(
            "is a lake, which has the alerts in a table anyway; name another output, or remove the target"
        )
    return name


class AlertOutputSection(ChannelSection):
    """Alerts as records of the table `cloud.office365.alerts`, in one of the outputs."""

    type: Literal["output"] = Field(title="output")

    output: Annotated[Name, AfterValidator(_parse_output)] = Field(title="the name of an output")
    """Which of `outputs` gets them: as reliably as it gets its records, over connections or in a folder of
    their own. A lake has the alerts in a table anyway."""

    tells_closed: ClassVar[bool] = True


def _build(channel: Channel[AlertOutputSection], context: ChannelContext) -> Sender:
    from m365watch.notifications.channels.output.record_sender import RecordSender

    [output] = (one for one in context.outputs if one.name == channel.section.output)
    return RecordSender(output, build=context.build_output, collector=context.collector, clock=context.clock)


SPEC = ChannelSpec(
    type="output",
    arrives="a record of the table `cloud.office365.alerts`",
    needs="the name of an output",
    section=AlertOutputSection,
    build=_build,
    test=(),
    erasure="",
)
