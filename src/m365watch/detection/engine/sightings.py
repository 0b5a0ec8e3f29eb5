"""What has been seen already, so that most sightings never go to the disk."""

from __future__ import annotations

from m365watch.detection.engine.match_consumers import Use

SIGHTINGS_MAX = 200_000
"""Keys whose first sightings are remembered beside those on disk."""

_Key = tuple[str, str, tuple[str, ...], str, int]


class Sightings:
    """When each key was first seen in its stretch of time: durably, or in the batch at hand."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._first_ms: dict[_Key, int] = {}
        self._before: list[tuple[_Key, int | None]] = []
        """What was known before the batch at hand, of the keys that it has."""

    def adds(self, use: Use, tenant: str, group: tuple[str, ...], counted: str, *, at_ms: int) -> bool:
        """Whether the key was not seen earlier in the same stretch; from now on it counts as seen."""
        key = (use.rule_id, tenant, group, counted, at_ms // use.bucket_ms)
        first_ms = self._first_ms.get(key)
        if first_ms is not None and first_ms < at_ms:
            return False
        self._before.append((key, first_ms))
        self._first_ms[key] = at_ms
        return True

    def settle(self) -> None:
        """The batch at hand is durable."""
        self._before.clear()
        if len(self._first_ms) > SIGHTINGS_MAX:
            self._first_ms.clear()

    def take_back(self) -> None:
        """Nothing of the batch at hand counts."""
        for key, first_ms in reversed(self._before):
            if first_ms is None:
                self._first_ms.pop(key, None)
            else:
                self._first_ms[key] = first_ms
        self._before.clear()
