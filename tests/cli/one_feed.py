"""The smallest configuration that commands are given: one tenant with one feed."""

from __future__ import annotations

import json
from pathlib import Path

_NOWHERE = dict.fromkeys(("login_url", "management_url", "graph_url"), "http://127.0.0.1:9")


def write_one_feed(folder: Path, tenant_id: str, *, secret: str = "not-a-real-one") -> Path:
    """A configuration in `folder` with the tenant's Exchange feed, at hosts that nobody answers for."""
    credentials = {"tenant_id": tenant_id, "client_id": tenant_id, "client_secret": secret}
    tenant = {
        "id": "1",
        "enabled": True,
        "credentials": credentials,
        "cloud": _NOWHERE,
        "services": {"exchange": {}},
    }
    path = folder / "config.json"
    path.write_text(json.dumps({"inputs": {"office365": tenant}}), encoding="utf-8")
    path.chmod(0o600)
    return path
