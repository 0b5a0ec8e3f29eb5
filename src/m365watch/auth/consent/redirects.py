"""What the browser brings back from the consent page: checked, and never taken at its word.

Every part of it may be somebody else's making: a page elsewhere can send a browser to our address.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import parse_qsl

from m365watch.auth.consent.authorization_request import ConsentAttempt
from m365watch.auth.refusals import CODE_IN_TEXT
from m365watch.common.errors import ConsentRefused
from m365watch.common.text import one_line
from m365watch.config.models.values import is_guid

_FIELDS_MAX = 50
_CODE = re.compile(r"[\x21-\x7e]{1,8192}")
_WHERE = "consent"
_ASK_AGAIN = "start the command again and open the address that it prints"

_ADMIN = "let an administrator who may consent for the whole tenant open the address and accept"
_APPLICATION = (
    "correct credentials.client_id, let the registration be multi-tenant, and set `cloud` to its cloud"
)
_LATER = "wait a few minutes and ask again"
_CURES_OF_CODES = {
    50011: "register this redirect URI on the application (platform Web), or name its own by --redirect-uri",
    50194: "name the tenant with --tenant, or make the registration multi-tenant",
    65001: _ADMIN,
    65004: _ADMIN,
    90094: _ADMIN,
    90095: _ADMIN,
    500011: "set `cloud` to the one the tenant lives in; the Management API is not known there",
    650051: _LATER,
    650052: "let the tenant have a subscription with Office 365 Management APIs, or set `cloud` right",
    650056: "add the permission ActivityFeed.Read of Office 365 Management APIs to the registration",
    650057: "add the permission ActivityFeed.Read of Office 365 Management APIs to the registration",
    700016: _APPLICATION,
}
_CURES = {
    "permission_denied": _ADMIN,
    "access_denied": _ADMIN,
    "consent_required": _ADMIN,
    "interaction_required": "open the address in a browser and finish the sign-in",
    "login_required": "open the address in a browser and finish the sign-in",
    "invalid_client": _APPLICATION,
    "unauthorized_client": _APPLICATION,
    "invalid_request": "compare redirect URI and client id with those of the registration in Entra",
    "invalid_resource": _CURES_OF_CODES[500011],
    "invalid_scope": "correct cloud.audience: one resource, as https://host",
    "temporarily_unavailable": _LATER,
    "server_error": _LATER,
}


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer that is ours and says yes."""

    tenant: str = ""
    """The GUID in lower case that the answer names; empty where it names none."""
    code: str = field(default="", repr=False)
    """Empty where the form of the question brings none."""


class ForeignAnswer(Exception):
    """The answer does not carry the state of our question: nothing of it is used."""


def read_redirect(query: str, attempt: ConsentAttempt) -> Redirect:
    """The answer in the query of a redirect.

    Raises:
        ForeignAnswer: its state is not the attempt's; whoever waits goes on waiting.
        ConsentRefused: it says no, or does not say what it has to.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict")
    except ValueError:
        raise ForeignAnswer from None
    said = dict(pairs)
    if attempt.state and not hmac.compare_digest(said.get("state", "").encode(), attempt.state.encode()):
        raise ForeignAnswer
    if len(said) < len(pairs):
        _refuse("the answer says something twice")
    if "error" in said:
        raise _refused(said, attempt)
    tenant = said.get("tenant", "")
    if tenant and not is_guid(tenant):
        _refuse("the answer names a tenant that is not a GUID")
    if attempt.form.gives_code:
        code = said.get("code", "")
        if not _CODE.fullmatch(code):
            _refuse("the answer brings no code" if not code else "the answer's code is no code")
        return Redirect(tenant.lower(), code)
    if said.get("admin_consent", "").lower() != "true" or not tenant:
        _refuse("the answer does not say that an administrator has consented, and for which tenant")
    return Redirect(tenant.lower())


def _refuse(what: str) -> NoReturn:
    raise ConsentRefused(what, fix=_ASK_AGAIN, where=_WHERE)


def _refused(said: dict[str, str], attempt: ConsentAttempt) -> ConsentRefused:
    """What an answer with `error` amounts to; its words are quoted, never branched on."""
    hide = tuple(filter(None, (attempt.state, attempt.verifier)))
    kind = one_line(said["error"], hide=hide)[:60] or "error"
    words = one_line(said.get("error_description", ""), hide=hide)
    named = CODE_IN_TEXT.search(words)
    code = int(named[1]) if named else 0
    fix = _CURES_OF_CODES.get(code) or _CURES.get(kind) or "look the code up, and ask again"
    quoted = f' ("{words}")' if words else ""
    return ConsentRefused(f"nobody has consented: {kind}{quoted}", fix=fix, where=_WHERE)
