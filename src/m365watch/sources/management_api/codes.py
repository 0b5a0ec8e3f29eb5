"""What each code of the API means for the caller.

Source: api-contract 3.1 (documented and observed), 3.4 and 5.4. The code decides, never the
status alone: throttling is documented as HTTP 403, and a repeated start succeeds with HTTP 400.
"""

from __future__ import annotations

from dataclasses import dataclass

from m365watch.common.errors import (
    AccessRefused,
    BadAnswer,
    CollectorError,
    ContentLost,
    NotSubscribed,
    PermissionMissing,
    Throttled,
    Unavailable,
    WebhookRefused,
    WindowRefused,
)

ALREADY_ENABLED = "AF20024"
"""The normal answer to a start of an enabled subscription: success."""

EXPIRED, UNKNOWN, INVALID = "expired", "unknown", "invalid"
"""Why content is lost; unknown and invalid have been seen to pass, so trying again may help."""

EMPTY = "empty"
"""The same for content that is answered without a body: it may come until it has expired."""


@dataclass(frozen=True, slots=True)
class AfCode:
    """One code of the API."""

    code: str
    cause: str
    becomes: type[CollectorError]
    fix: str = ""
    """One imperative sentence without its full stop, where a person has to act."""
    lost: str = ""
    """For `ContentLost`: expired, unknown or invalid."""


AUDIT_OFF_CAUSE = "auditing was never enabled in the tenant"
AUDIT_OFF_FIX = (
    "turn auditing on (Set-AdminAuditLogConfig -UnifiedAuditLogIngestionEnabled $true in Exchange Online "
    "PowerShell) and wait up to 24 hours"
)
PERMISSION_FIX = (
    "grant the application ActivityFeed.Read (and ActivityFeed.ReadDlp for `dlp`) of Office 365 Management "
    "APIs as application permission, with admin consent"
)
_TENANT_FIX = "set credentials.tenant_id to the tenant that the application's token is for"
_PUBLISHER_FIX = "set the publisher identifier to a GUID, or leave it out"
_CONTENT_TYPE_FIX = "disable this service for the tenant, as its cloud does not offer it"

CODES = {
    known.code: known
    for known in (
        AfCode("AF10001", "the token lacks a permission", PermissionMissing, PERMISSION_FIX),
        AfCode("AF20001", "a parameter is missing", BadAnswer),
        AfCode("AF20002", "a parameter has the wrong type", AccessRefused, _PUBLISHER_FIX),
        AfCode("AF20010", "the token is for another tenant", AccessRefused, _TENANT_FIX),
        AfCode("AF20011", AUDIT_OFF_CAUSE, AccessRefused, AUDIT_OFF_FIX),
        AfCode("AF20012", "the tenant is not set up for auditing", AccessRefused, AUDIT_OFF_FIX),
        AfCode("AF20013", "the tenant id is no GUID", AccessRefused, _TENANT_FIX),
        AfCode("AF20020", "the content type is not valid here", AccessRefused, _CONTENT_TYPE_FIX),
        AfCode("AF20021", "the webhook could not be validated", WebhookRefused),
        AfCode("AF20022", "there is no subscription", NotSubscribed),
        AfCode("AF20023", "the subscription was disabled", NotSubscribed),
        AfCode("AF20030", "the window is refused", WindowRefused),
        AfCode("AF20031", "the page token is refused", WindowRefused),
        AfCode("AF20050", "the content does not exist", ContentLost, lost=UNKNOWN),
        AfCode("AF20051", "the content has expired", ContentLost, lost=EXPIRED),
        AfCode("AF20052", "the content id is not valid", ContentLost, lost=INVALID),
        AfCode("AF20055", "the window is refused", WindowRefused),
        AfCode("AF429", "too many requests", Throttled),
        AfCode("AF50000", "an internal error of the service", Unavailable),
        AfCode("AF50005", "an internal error of the service", Unavailable),
        AfCode("AF50006", "an internal error of the service", Unavailable),
    )
}
"""Every code that a collector has met or may meet."""
