"""What is masked in records: the rules of the configuration, and those that `dlp` has of its own."""

from __future__ import annotations

from m365watch.config.defaults import DETECTED_VALUES
from m365watch.config.models.inputs import DlpSection, InputSection, MaskSection, ServiceSection
from m365watch.config.models.settings import MaskSettings


def masks_of(section: InputSection, service: ServiceSection) -> tuple[MaskSettings, ...]:
    """The rules for one service's records: its own default, then the input's, then the service's."""
    detected = isinstance(service, DlpSection) and service.obfuscate_detected_values
    written = (*section.obfuscation_data, *service.obfuscation_data)
    return (*(DETECTED_VALUES if detected else ()), *(_resolve(mask) for mask in written))


def _resolve(mask: MaskSection) -> MaskSettings:
    return MaskSettings(mask.name, mask.value, mask.string_patterns)
