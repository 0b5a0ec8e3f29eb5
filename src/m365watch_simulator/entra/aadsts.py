"""Entra's refusals at the token endpoint: code, `error`, HTTP status and text of each.

Source: api-contract 1.7. Texts are our own wording after the code's meaning; a collector has to
branch on `error` and `error_codes`, never on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from random import Random
from uuid import UUID

import msgspec

from m365watch_simulator.feed.refusals import Refusal


@dataclass(frozen=True, slots=True)
class _Kind:
    error: str
    status: int
    text: str
    has_uri: bool = False


_KINDS = {
    50011: _Kind(
        "invalid_request",
        400,
        "The redirect URI of the request is not among those of the application '{}'.",
        True,
    ),
    50012: _Kind("invalid_client", 401, "The audience of the client assertion does not match the issuer."),
    50013: _Kind("invalid_client", 401, "The assertion's signature is not valid."),
    50027: _Kind("invalid_client", 401, "Invalid JWT: no certificate thumbprint in its header."),
    53003: _Kind("invalid_grant", 400, "A Conditional Access policy blocks the access of the application."),
    54005: _Kind("invalid_grant", 400, "The authorization code was redeemed already."),
    65001: _Kind("invalid_grant", 400, "Nobody has consented to the use of the application."),
    65004: _Kind("access_denied", 400, "The user declined to consent to the application."),
    70000: _Kind("invalid_grant", 400, "The value of the parameter 'code' is not valid."),
    70003: _Kind("unsupported_grant_type", 400, "The grant type is not supported."),
    70008: _Kind("invalid_grant", 400, "The authorization code has expired."),
    70011: _Kind("invalid_scope", 400, "The scope is not valid for this request."),
    70021: _Kind("invalid_request", 400, "No federated identity record matches the presented assertion."),
    90002: _Kind(
        "invalid_request",
        400,
        "Tenant '{}' not found. Check the tenant ID and that it is the right cloud.",
        True,
    ),
    90006: _Kind("temporarily_unavailable", 503, "The service is not available for the moment."),
    90011: _Kind("invalid_request", 400, "The client identifier is ambiguous."),
    90012: _Kind("temporarily_unavailable", 503, "The request took too long inside the service."),
    90024: _Kind("temporarily_unavailable", 503, "The request was cut off for a moment; repeat it."),
    90033: _Kind("temporarily_unavailable", 503, "A passing error has occurred. Please try again."),
    90055: _Kind("temporarily_unavailable", 429, "The tenant sends too many requests."),
    90094: _Kind("access_denied", 400, "Only an administrator may grant what the application asks for."),
    500011: _Kind(
        "invalid_resource", 400, "The resource principal named {} was not found in the tenant.", True
    ),
    500112: _Kind(
        "invalid_grant", 400, "The redirect URI is not that of the request for the authorization code."
    ),
    501481: _Kind(
        "invalid_grant", 400, "The code_verifier does not match the code_challenge of the request."
    ),
    501491: _Kind("invalid_request", 400, "The code_challenge or its method is not valid."),
    650052: _Kind(
        "invalid_resource", 400, "The organization lacks the service that the application asks for."
    ),
    650057: _Kind(
        "invalid_resource", 400, "The resource is not among those that the application has requested."
    ),
    700016: _Kind(
        "unauthorized_client", 400, "Application with identifier '{}' was not found in the directory.", True
    ),
    700024: _Kind("invalid_client", 401, "The client assertion is not within its valid time range."),
    700025: _Kind(
        "invalid_client", 401, "The client is public: neither assertion nor secret may be presented."
    ),
    700027: _Kind(
        "invalid_client",
        401,
        "The certificate that signed the client assertion is not registered. [Reason - {}]",
        True,
    ),
    700030: _Kind("invalid_client", 401, "The subject name of the certificate is not authorized."),
    700211: _Kind(
        "invalid_client", 401, "No matching federated identity record for the assertion's issuer '{}'."
    ),
    700212: _Kind(
        "invalid_client", 401, "No matching federated identity record for the assertion's audience '{}'."
    ),
    700213: _Kind(
        "invalid_client", 401, "No matching federated identity record for the assertion's subject '{}'."
    ),
    700229: _Kind(
        "invalid_client", 401, "Only tokens of an application can be used as federated credentials."
    ),
    900023: _Kind(
        "invalid_request", 400, "The tenant identifier '{}' is neither a GUID nor a valid domain name."
    ),
    900144: _Kind(
        "invalid_request", 400, "The request body must contain the following parameter: '{}'.", True
    ),
    900382: _Kind("invalid_request", 400, "A confidential client is not supported in a cross-cloud request."),
    900432: _Kind("invalid_request", 400, "A confidential client is not supported in a cross-cloud request."),
    1002012: _Kind("invalid_scope", 400, "The scope {} is not valid: it has to end in /.default."),
    7000112: _Kind("unauthorized_client", 400, "Application '{}' is disabled.", True),
    7000215: _Kind(
        "invalid_client",
        401,
        "Invalid client secret provided for app '{}': send its value, not its ID.",
        True,
    ),
    7000218: _Kind(
        "invalid_client", 401, "The body must contain 'client_assertion' or 'client_secret'.", True
    ),
    7000229: _Kind("invalid_client", 401, "The client application {} has no service principal here.", True),
    7000222: _Kind("invalid_client", 401, "The client secret keys for app '{}' are expired.", True),
}


def aadsts_codes() -> list[int]:
    """The codes the simulator knows, sorted."""
    return sorted(_KINDS)


def aadsts(code: int, part: str = "", *, now: datetime) -> Refusal:
    """Entra's refusal `code`, its text filled with `part`."""
    kind = _KINDS[code]
    random = Random(f"{code}/{now.isoformat()}")
    trace, correlation = (str(UUID(int=random.getrandbits(128), version=4)) for _ in range(2))
    timestamp = f"{now:%Y-%m-%d %H:%M:%SZ}"
    text = f"AADSTS{code}: {kind.text.format(part)}"
    body: dict[str, object] = {
        "error": kind.error,
        "error_description": (
            f"{text}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {timestamp}"
        ),
        "error_codes": [code],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
    }
    if kind.has_uri:
        body["error_uri"] = f"https://login.microsoftonline.com/error?code={code}"
    return Refusal(kind.status, msgspec.json.encode(body))
