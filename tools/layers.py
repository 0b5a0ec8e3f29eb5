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
UPWARD = {
    ("common", "config"),
    ("detection", "health"),
    ("detection", "runtime"),
    ("lake", "detection"),
    ("ledger", "sources"),
    ("sources", "health"),
}
"""What still imports from a later package: each pair goes with the split or merge that it waits for."""
