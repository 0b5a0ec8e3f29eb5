"""What is masked in records: the rules of the configuration, and those that `dlp` has of its own."""

from __future__ import annotations

from m365watch.config.defaults import DETECTED_VALUES
from m365watch.config.models.inputs import DlpSection, InputSection, MaskSection, ServiceSection


def masks_of(section: InputSection, service: ServiceSection) -> tuple[MaskSection, ...]:
    """The rules for one service's records: its own default, then the input's, then the service's."""
    detected = isinstance(service, DlpSection) and service.obfuscate_detected_values
    return (*(DETECTED_VALUES if detected else ()), *section.obfuscation_data, *service.obfuscation_data)
