"""A secret that is not shown by accident."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that no `repr`, log line or traceback shows."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """The secret itself, for the one call that sends it."""
        return self._value

    def __repr__(self) -> str:
        """Stars, whatever the secret."""
        return "Secret(***)"


def secret_of(given: SecretStr | None) -> Secret | None:
    """The secret of a section of the configuration, where it has one."""
    return None if given is None else Secret(given.get_secret_value())
