"""What the simulator tells tests in other processes: the truth, and what it saw of its callers."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from m365watch_simulator.feed.answers import refusal_response
from m365watch_simulator.feed.refusals import Refusal
from m365watch_simulator.feed.subscriptions import content_type_of
from m365watch_simulator.service.gate import Gate
from m365watch_simulator.service.tenant import SimulatedTenant


class Inspection:
    """The paths below /simulator, and the trap for every path that nobody has a reason to ask for."""

    def __init__(self, tenants: list[SimulatedTenant], gate: Gate) -> None:
        """`gate` counts, `tenants` know the truth."""
        self._tenants = {tenant.identity.tenant_id: tenant for tenant in tenants}
        self._gate = gate

    def routes(self) -> list[web.AbstractRouteDef]:
        """To be added last: the trap takes every path that is left."""
        return [
            web.get("/simulator/truth", self.truth),
            web.get("/simulator/report", self.report),
            web.route("*", "/{path:.*}", self.violation),
        ]

    async def truth(self, request: web.Request) -> web.StreamResponse:
        """NDJSON of the distinct records, `tenant` and `content_type` may narrow it.

        `copies=all` adds every other text in which a record was served.
        """
        asked = request.query.get("tenant", "").lower()
        try:
            only = [content_type_of(text) for text in request.query.getall("content_type", [])]
        except Refusal as refused:
            return refusal_response(refused)
        truths = [tenant.truth(*only) for name, tenant in self._tenants.items() if asked in ("", name)]
        records = [record for truth in truths for record in truth.records()]
        if request.query.get("copies") == "all":
            records += [text for truth in truths for texts in truth.texts.values() for text in texts[1:]]
        headers = {
            "Content-Type": "application/x-ndjson",
            "X-Records": str(sum(truth.record_count for truth in truths)),
            "X-Records-Served": str(sum(truth.served for truth in truths)),
            "X-Records-Unreadable": str(sum(truth.unreadable for truth in truths)),
            "X-Blobs": str(sum(truth.blobs for truth in truths)),
            "X-Blobs-Out-Of-Reach": str(sum(truth.blobs_out_of_reach for truth in truths)),
        }
        return web.Response(body=b"".join(record + b"\n" for record in records), headers=headers)

    async def report(self, _: web.Request) -> web.Response:
        """The report as one JSON object."""
        return web.Response(body=msgspec.json.encode(self.report_document()), content_type="application/json")

    def report_document(self) -> dict[str, Any]:
        """Requests by call, peaks by tenant, faults by answer, violations."""
        report = self._gate.report
        return {
            "requests": dict(report.requests),
            "requests_per_minute_peak": {
                name: tenant.throttle.peak for name, tenant in self._tenants.items()
            },
            "requests_without_publisher": report.without_publisher,
            "throttled": report.throttled,
            "faults": dict(report.faults),
            "violations": report.violations,
        }

    async def violation(self, request: web.Request) -> web.Response:
        """Note a request that no caller has a reason to send."""
        token = " with a bearer token" if "Authorization" in request.headers else ""
        self._gate.report.violate(f"{request.method} {request.host}{request.path}{token}")
        return refusal_response(
            Refusal(404, b"<html><body>Nothing here.</body></html>", media_type="text/html")
        )
