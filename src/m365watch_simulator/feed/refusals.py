"""The API's refusals: code, HTTP status and text of each.

Source: api-contract 3.1; statuses in brackets there are inferred and so are they here.
"""

from __future__ import annotations

import msgspec


class Refusal(Exception):
    """The service answers with `status` and `body` in place of content."""

    def __init__(
        self, status: int, body: bytes, *, media_type: str = "application/json; charset=utf-8"
    ) -> None:
        """Keep the answer as it goes on the wire."""
        super().__init__(status)
        self.status = status
        self.body = body
        self.media_type = media_type


_WINDOW_TEXT = (
    "Start time and end time must both be specified (or both omitted) and must be less than or equal to "
    "24 hours apart, with the start time prior to end time and start time no more than 7 days in the past."
)
_EXPIRED_TEXT = (
    "Content requested with the key {} has already expired. Content older than 7 days cannot be retrieved."
)
_TEXTS = {
    "AF10001": (401, "The permission set ({}) sent in the request does not include the expected permission."),
    "AF20001": (400, "Missing parameter: {}."),
    "AF20002": (400, "Invalid parameter type: {}. Expected type: {}"),
    "AF20010": (
        400,
        "The tenant ID passed in the URL ({}) does not match the tenant ID passed in the access token ({}).",
    ),
    "AF20013": (400, "The tenant ID passed in the URL ({}) is not a valid GUID."),
    "AF20020": (400, "The specified content type is not valid."),
    "AF20021": (400, "The webhook endpoint ({}) could not be validated. {}"),
    "AF20022": (400, "No subscription found for the specified content type."),
    "AF20023": (400, "The subscription was disabled."),
    "AF20024": (400, "The subscription is already enabled. No property change."),
    "AF20031": (400, "Invalid nextPage Input: {}."),
    "AF20050": (404, "The specified content ({}) does not exist."),
    "AF20051": (
        400,
        _EXPIRED_TEXT,
    ),
    "AF20052": (400, "Blob key {} in the url is invalid"),
    "AF20053": (400, "Only one language may be present in the Accept-Language header."),
    "AF20054": (400, "Invalid syntax in Accept-Language header."),
    "AF20055": (
        400,
        _WINDOW_TEXT,
    ),
    "AF429": (403, "Too many requests. Method={}, PublisherId={}"),
    "AF50000": (500, "An internal error occurred. Retry the request."),
}


def refusal(code: str, *parts: object, status: int | None = None) -> Refusal:
    """The refusal `code`, its text filled with `parts`; `status` overrides the usual one."""
    usual, text = _TEXTS[code]
    return Refusal(status or usual, error_body(code, text.format(*parts)))


def takes_parts(code: str) -> bool:
    """Whether the text of `code` names what it is about."""
    return "{}" in _TEXTS[code][1]


def error_body(code: str, text: str) -> bytes:
    """The documented envelope."""
    return msgspec.json.encode({"error": {"code": code, "message": text}})


def unauthorized() -> Refusal:
    """The answer to a token that is missing, malformed, expired or for somebody else: no error object."""
    return Refusal(401, b'{"Message":"Authorization has been denied for this request."}')


def graph_refusal(status: int, code: str, text: str) -> Refusal:
    """What Graph answers: its own envelope, with an inner error."""
    inner = {"request-id": "00000000-0000-4000-8000-000000000000"}
    body = {"error": {"code": code, "message": text, "innerError": inner}}
    return Refusal(status, msgspec.json.encode(body))


def html_page(status: int, title: str) -> Refusal:
    """What a gateway in front of the service answers."""
    page = f"<html><head><title>{title}</title></head><body><h2>{title}</h2></body></html>"
    return Refusal(status, page.encode(), media_type="text/html")


def audit_never_enabled(tenant_id: str, content_type: str) -> Refusal:
    """What a tenant without an audit log gets: an error object that the server split in the wrong place.

    Source: api-contract 3.4.
    """
    code = (
        f"StartSubscription [CorrId=00000000-0000-4000-8000-000000000000][TenantId={tenant_id},"
        f"ContentType={content_type},ApplicationId=simulated,PublisherId=simulated][AppId"
    )
    text = f"simulated] failed. Exception: Tenant {tenant_id} does not exist.\r\n   at Simulated.Store.Open()"
    return Refusal(400, error_body(code, text))
