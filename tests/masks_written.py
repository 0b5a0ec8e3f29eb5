"""Rules of `obfuscation_data` as tests write them."""

from __future__ import annotations

from m365watch.config.models.inputs import MaskSection


def mask_of(name: tuple[str, ...], value: str, patterns: tuple[str, ...]) -> MaskSection:
    """The rule, its patterns unchecked."""
    return MaskSection.model_construct(name=name, value=value, string_patterns=patterns)
