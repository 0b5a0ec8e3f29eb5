"""The layers of the package: what may import what. Held by tests/architecture, drawn by `structure`."""

from __future__ import annotations

LAYERS = (
    {"__init__", "instants", "model", "errors", "clock", "progress", "defects", "durable"}
    | {"own_thread", "missing_files", "plain", "spreadsheets", "urls", "base64url", "http_listener"},
    {"config", "records", "ledger", "feed.windows"},
    {"entra", "feed", "outputs", "lake", "detect", "monitor", "simulator"},
    {"delivery", "adoption", "completeness", "devo_alerts", "expiry", "tenancy", "respond"}
    | {"shipping", "notify"},
    {"pipeline", "recovery", "replay", "announcements", "reach", "webhook"},
    {"collection"},
    {
        "app",
        "detecting",
        "hunting",
        "lasting",
        "notifying",
        "opening",
        "outputting",
        "reloading",
        "rebuilding",
        "recovering",
        "renewing",
        "repairing",
        "replaying",
        "inspection",
        "lost_alerts",
        "metrics",
        "diagnosis",
        "preflight",
        "traces",
        "elsewhere",
        "keeping",
        "testing",
    },
    {"cli", "board", "boarding", "__main__"},
)
"""Each layer imports from those before it and from its own."""
