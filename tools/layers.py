"""The packages in order: each imports from itself and from those before it; tests/architecture holds that."""

from __future__ import annotations

LAYERS = (
    "common",
    "storage",
    "http",
    "registry",
    "config",
    "auth",
    "records",
    "ledger",
    "lake",
    "outputs",
    "sources",
    "pipeline",
    "detection",
    "notifications",
    "response",
    "health",
    "runtime",
    "board",
    "cli",
)
COMPANIONS = ("m365watch_simulator", "m365watch_testing")
"""They import `m365watch`, and it imports none of them, but for the commands of `USES_COMPANION`."""
USES_COMPANION = ("cli.demo.tenant_process", "cli.simulate")
