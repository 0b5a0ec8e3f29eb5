"""Every key of the configuration file; the words below a key are its text on the reference page.

A field's title is what its key wants, as the object of "give ...": mistakes and the reference
page both use it.
"""

# Annotations stay objects here (`base.Section` says why).

from collections.abc import Sequence
from functools import lru_cache

from pydantic import Field

from m365watch.config.models.base import DEFAULTS, OBJECT, Name, Section, retyped
from m365watch.config.models.credentials import Credentials, ResponseCredentials, with_kinds
from m365watch.config.models.detections import DetectionsSection, ResponseSection
from m365watch.config.models.globals import GlobalOverrides, Globals
from m365watch.config.models.inputs import InputSection
from m365watch.config.models.kinds import ConfiguredSpec, any_of
from m365watch.config.models.listeners import BoardSection
from m365watch.config.models.notifications import ChannelSection
from m365watch.config.models.outputs import OutputSection
from m365watch.registry.channel_specs import CHANNELS
from m365watch.registry.credential_specs import CREDENTIALS
from m365watch.registry.output_specs import OUTPUTS


class ConfigurationFile(Section):
    """The whole file."""

    # `configuration_file` puts the registered kinds in the place of what all have in common.

    globals: Globals = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """What holds for the whole collector."""

    global_overrides: GlobalOverrides = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """What a job overrides of `globals`, as on Devo's collector server."""

    inputs: dict[Name, InputSection] = Field(title="an object of inputs, each under a name of its own")
    """What is collected: each input is one application and its tenants."""

    outputs: dict[Name, OutputSection] = Field(
        default={}, title="an object of outputs, each under a name of its own"
    )
    """Where records go: each output gets every record. Left out: one lake in the folder `lake`."""

    detections: DetectionsSection = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """The rules that every record goes past, and that make alerts of what they find."""

    board: BoardSection | None = Field(default=None, title=OBJECT)
    """Where the analyst's pages are served, and who may see what; left out, to this machine alone."""


def configuration_file() -> type[ConfigurationFile]:
    """The whole file, with every registered kind of output, credential and notification channel."""
    return _with_kinds(OUTPUTS.specs, CHANNELS.specs, CREDENTIALS.specs)


@lru_cache(maxsize=4)
def _with_kinds(
    outputs: Sequence[ConfiguredSpec], channels: Sequence[ConfiguredSpec], _: Sequence[ConfiguredSpec]
) -> type[ConfigurationFile]:
    response = retyped(ResponseSection, credentials=with_kinds(ResponseCredentials) | None)
    detections = retyped(
        DetectionsSection,
        notifications=dict[Name, any_of(channels, ChannelSection)],  # type: ignore[misc]
        response=response,
    )
    return retyped(
        ConfigurationFile,
        inputs=dict[Name, retyped(InputSection, credentials=with_kinds(Credentials))],  # type: ignore[misc]
        outputs=dict[Name, any_of(outputs, OutputSection)],  # type: ignore[misc]
        detections=detections,
    )
