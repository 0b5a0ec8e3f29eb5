"""What a token of the API may be used for."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """One thing that a token is good for; it is good for nothing else."""

    READ = "read"
    """Reads what the pages show: panels, and alerts with what analysts have made of them."""
    ALERTS_WRITE = "alerts:write"
    """Acknowledges alerts, closes them with a reason, and opens them again."""
    EXPORT = "export"
    """Takes panels along as CSV, and records as they were sent."""
    SQL = "sql"
    """Asks SQL over the records of its tenants."""
    METRICS = "metrics"
    """Reads the collector's figures as Prometheus scrapes them."""


SAYS = {
    Scope.READ: "read panels and alerts",
    Scope.ALERTS_WRITE: "acknowledge, close and reopen alerts",
    Scope.EXPORT: "take panels along as CSV, and records",
    Scope.SQL: "ask SQL",
    Scope.METRICS: "scrape /metrics",
}
"""Each in a few words, for help texts and documents."""
