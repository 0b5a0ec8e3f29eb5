"""The machine that a collector runs on, as Azure makes it: IMDS and App Service give its identity's tokens.

Source: api-contract 1.9, and Azure's pages on managed identities for virtual machines and for App Service.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from m365watch_simulator.entra.federation import EXCHANGE_AUDIENCE, LIFE_S, Issuer
from m365watch_simulator.service.gate import Gate
from m365watch_simulator.service.tenant import SimulatedTenant

IMDS_PATH = "/metadata/identity/oauth2/token"
APP_SERVICE_PATH = "/msi/token"
IDENTITY_HEADER = "simulated~identity~header"
"""App Service's secret, which a process in it finds in its environment."""
_IMDS_VERSION = "2018-02-01"
_APP_SERVICE_VERSION = "2019-08-01"


class Machine:
    """A machine in the tenant `home`, with a system-assigned identity that has a client ID as well."""

    def __init__(self, home: SimulatedTenant, gate: Gate, issuer: Issuer) -> None:
        """`issuer` signs what the identity vouches with."""
        self._home = home
        self._gate = gate
        self._issuer = issuer

    def routes(self) -> list[web.AbstractRouteDef]:
        """Both ways to a token."""
        return [web.get(IMDS_PATH, self.imds), web.get(APP_SERVICE_PATH, self.app_service)]

    async def imds(self, request: web.Request) -> web.StreamResponse:
        """As IMDS answers."""
        if request.headers.get("Metadata", "").lower() != "true" or "X-Forwarded-For" in request.headers:
            return _refused(400, "invalid_request", "Required metadata header not specified")
        return self._answered(request, version=_IMDS_VERSION, is_imds=True)

    async def app_service(self, request: web.Request) -> web.StreamResponse:
        """As App Service answers."""
        if request.headers.get("X-IDENTITY-HEADER") != IDENTITY_HEADER:
            return web.json_response(
                {"statusCode": 401, "message": "The identity header is not right."}, status=401
            )
        return self._answered(request, version=_APP_SERVICE_VERSION, is_imds=False)

    def _answered(self, request: web.Request, *, version: str, is_imds: bool) -> web.StreamResponse:
        self._gate.report.requests["identity"] += 1
        identity, now = self._home.identity, self._gate.clock.now()
        query = request.query
        if query.get("api-version") != version:
            return _refused(400, "invalid_request", f"The api-version has to be {version}")
        resource = query.get("resource", "")
        if query.get("client_id", identity.identity_id) != identity.identity_id:
            return _refused(400, "invalid_request", "Identity not found")
        token = None
        if resource == EXCHANGE_AUDIENCE:
            token = self._issuer.identity_token(identity, now)
        elif resource:
            token = self._home.tokens.issue_to_identity(resource, now=now)
        if token is None:
            return _refused(400, "invalid_resource", f"AADSTS500011: the resource {resource} was not found")
        life_s = LIFE_S if resource == EXCHANGE_AUDIENCE else self._home.behaviour.token_life_s
        said = {
            "access_token": token,
            "client_id": identity.identity_id,
            "expires_on": str(int(now.timestamp()) + life_s),
            "resource": resource,
            "token_type": "Bearer",
        }
        if is_imds:
            said |= {
                "expires_in": str(life_s),
                "ext_expires_in": str(life_s),
                "not_before": str(int(now.timestamp())),
            }
        return web.Response(body=msgspec.json.encode(said), content_type="application/json")


def _refused(status: int, error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)
