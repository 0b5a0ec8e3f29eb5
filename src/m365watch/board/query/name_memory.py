"""Names that were looked up, kept for a while: a page asks for the same few at every look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

LASTS_S = 600
"""How long a name counts, or that there is none."""
NAMES_MAX = 20_000
"""Beyond that all are forgotten and looked up anew."""
Scope = tuple[str, ...] | None
"""The tenants in whose records a name was looked for; None: in all."""


class NameMemory:
    """What ids are called, by the scope in which that was looked up."""

    def __init__(self) -> None:
        """Nothing is remembered."""
        self._told: dict[tuple[Scope, str], tuple[float, str]] = {}

    def unknown(self, scope: Scope, ids: Iterable[str], *, now_s: float) -> list[str]:
        """Those of which nothing was looked up lately, in order."""
        return [
            one
            for one in sorted(set(ids))
            if now_s - self._told.get((scope, one), (float("-inf"), ""))[0] >= LASTS_S
        ]

    def learn(self, scope: Scope, asked: Iterable[str], names: Mapping[str, str], *, now_s: float) -> None:
        """Remember what those that were asked for are called, and which of them nothing."""
        if len(self._told) > NAMES_MAX:
            self._told.clear()
        self._told |= {(scope, one): (now_s, names.get(one, "")) for one in asked}

    def names(self, scope: Scope, ids: Iterable[str]) -> dict[str, str]:
        """The names of those that have one."""
        told = ((one, self._told.get((scope, one), (0.0, ""))[1]) for one in ids)
        return {one: name for one, name in told if name}
