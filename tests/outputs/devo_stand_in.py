"""Devo's Alerts API on loopback: it keeps definitions, and answers as its pages say."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from m365watch_testing.loopback import Received, Reply

TOKEN = "7d3f1c5b9a2e4f60"
PATH = "/alerts/v1/alertDefinitions"


@dataclass
class DevoStandIn:
    """Called with each request; `kept` is what it knows, by its number."""

    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    forgets: bool = False
    """Takes what it is given, and does not keep it."""
    spoils: bool = False
    """Keeps another query than it was given."""
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(70_001))

    def __call__(self, request: Received) -> Reply:
        """The answer to one request."""
        parts = urlsplit(request.target)
        if request.headers.get("standAloneToken") != TOKEN:
            return Reply(
                401, b'{"message": "bad token ' + request.headers["standAloneToken"].encode() + b'"}'
            )
        if parts.path != PATH:
            return Reply(404)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if request.method == "GET":
            wanted = asked["nameFilter"].lower()
            return self._json([one for one in self.kept.values() if wanted in one["name"].lower()])
        if request.method == "DELETE":
            del self.kept[asked["alertIds"]]
            return Reply(200)
        return self._keep(json.loads(request.body))

    def _keep(self, document: dict[str, Any]) -> Reply:
        number = str(document.get("id") or next(self.numbers))
        kept = document | {
            "id": number,
            "isActive": True,
            "subcategory": f"lib.my.domain.{document['subcategory']}",
        }
        if self.spoils:
            kept["alertCorrelationContext"] = kept["alertCorrelationContext"] | {
                "querySourceCode": "from other"
            }
        if not self.forgets:
            self.kept[number] = kept
        return self._json(kept)

    def _json(self, document: object) -> Reply:
        return Reply(200, json.dumps(document).encode(), {"Content-Type": "application/json"})
