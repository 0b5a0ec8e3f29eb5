"""What the service saw of its callers: counts by call, peaks, and what should never have come."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_VIOLATIONS_MAX = 1_000


@dataclass(slots=True)
class Report:
    """Grows with every request."""

    requests: Counter[str] = field(default_factory=Counter)
    """By call: token, start, stop, subscriptions, list, page, fetch, notifications, dlp_types."""
    without_publisher: int = 0
    """API requests without PublisherIdentifier."""
    throttled: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Scenario answers given, by their name."""
    violations: list[str] = field(default_factory=list)
    """Requests that no caller has a reason to send, for example to the host of a garbage contentUri."""

    def violate(self, text: str) -> None:
        """Keep one violation; the first thousand are kept."""
        if len(self.violations) < _VIOLATIONS_MAX:
            self.violations.append(text)
