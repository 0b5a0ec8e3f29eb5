"""The secrets of a configuration, so that what the collector says of itself can be checked for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from pydantic import BaseModel, SecretStr

from m365watch.common.secret import Secret

CHARACTERS_MIN = 6
"""A shorter secret is part of too many words to be blotted out."""


def list_secrets(settings: object) -> frozenset[str]:
    """Every secret anywhere in `settings`, revealed; the very short ones left out."""
    return frozenset(text for text in _reveal(settings) if len(text) >= CHARACTERS_MIN)


def _reveal(value: object) -> Iterator[str]:
    if isinstance(value, Secret | SecretStr):
        text = value.reveal() if isinstance(value, Secret) else value.get_secret_value()
        yield text
        # A private key has many lines, each of which tells a part of it.
        yield from (line for line in text.split("\n")[1:] if not line.startswith("-----"))
    elif isinstance(value, BaseModel):
        for part in vars(value).values():
            yield from _reveal(part)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _reveal(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _reveal(part)
