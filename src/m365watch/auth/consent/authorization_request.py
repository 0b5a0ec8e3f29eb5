"""How a tenant's administrator is asked to consent: the addresses to open, and what belongs to one try.

Source: api-contract 1.8; RFC 7636 (PKCE) for the code's verifier.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NoReturn, Self
from urllib.parse import parse_qsl, quote, urlencode

from m365watch.auth.refusals import CODE_IN_TEXT
from m365watch.common import base64url
from m365watch.common.errors import ConsentRefused
from m365watch.common.text import one_line
from m365watch.common.urls import split_url
from m365watch.config.models.clouds import Cloud
from m365watch.config.models.values import is_guid

ANY_TENANT = "common"
"""In place of a tenant: whichever one the administrator signs in to."""
REDIRECT_URI = "http://localhost:8400/consent"
"""What is to be registered on the application, unless another is named."""

_KEPT = ("form", "client_id", "redirect_uri", "tenant", "state", "verifier")
_PAGES_LOGIN_URL = {"https://login.microsoftonline.com": "https://login.windows.net"}
"""The login host that the product page prints, for the one that is meant by it."""


class ConsentForm(StrEnum):
    """The three ways to ask."""

    ADMIN = "admin"
    """The admin-consent page: no sign-in for us, no code; the answer names the tenant."""
    CODE = "code"
    """A sign-in at the v2 endpoint, whose code is exchanged for a token that names the tenant."""
    V1 = "v1"
    """The same at the v1 endpoint, with the address that the product page prints."""

    @property
    def gives_code(self) -> bool:
        """Whether a good answer brings a code."""
        return self is not ConsentForm.ADMIN


@dataclass(frozen=True, slots=True)
class ConsentAttempt:
    """One question to an administrator, and what its answer is checked by."""

    form: ConsentForm
    cloud: Cloud
    client_id: str
    redirect_uri: str = REDIRECT_URI
    tenant: str = ANY_TENANT
    """A GUID or a domain, or `common`."""
    state: str = field(default="", repr=False)
    """Comes back with the answer; empty: nobody checks it."""
    verifier: str = field(default="", repr=False)
    """Proves that who exchanges the code is who asked for it; empty: without PKCE."""

    def guarded(self) -> Self:
        """The same question with a state and a verifier that nobody can guess."""
        verifier = secrets.token_urlsafe(48) if self.form.gives_code else ""
        return replace(self, state=secrets.token_urlsafe(32), verifier=verifier)

    @property
    def url(self) -> str:
        """The address for the administrator's browser."""
        place = {
            ConsentForm.ADMIN: "adminconsent",
            ConsentForm.CODE: "oauth2/v2.0/authorize",
            ConsentForm.V1: "oauth2/authorize",
        }[self.form]
        login_url = self.cloud.login_url
        if self.form is ConsentForm.V1:
            login_url = _PAGES_LOGIN_URL.get(login_url, login_url)
        query = urlencode(self._query(), quote_via=quote, safe="")
        return f"{login_url}/{quote(self.tenant, safe='')}/{place}?{query}"

    @property
    def token_url(self) -> str:
        """Where the code is exchanged: always at the cloud's own login host."""
        place = "oauth2/token" if self.form is ConsentForm.V1 else "oauth2/v2.0/token"
        return f"{self.cloud.login_url}/{quote(self.tenant, safe='')}/{place}"

    def exchange_form(self, code: str) -> dict[str, str]:
        """What is posted to `token_url` besides the application's proof."""
        form = {
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "code": code,
        }
        if self.form is ConsentForm.V1:
            form["resource"] = self.cloud.audience
        else:
            form["scope"] = self._scope
        return form | ({"code_verifier": self.verifier} if self.verifier else {})

    @property
    def _scope(self) -> str:
        return f"openid {self.cloud.audience}/.default"

    def _query(self) -> dict[str, str]:
        query: dict[str, str] = {}
        if self.form is ConsentForm.V1:
            query |= {"response_type": "code", "resource": self.cloud.audience}
        if self.form is ConsentForm.CODE:
            query |= {"response_type": "code", "response_mode": "query", "scope": self._scope}
        query |= {"client_id": self.client_id, "redirect_uri": self.redirect_uri}
        if self.form is ConsentForm.CODE:
            query["prompt"] = "consent"
        if self.state:
            query["state"] = self.state
        if self.verifier:
            query |= {"code_challenge": challenge_of(self.verifier), "code_challenge_method": "S256"}
        return query


def challenge_of(verifier: str) -> str:
    """The challenge that PKCE's method S256 makes of a verifier."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64url.encoded(digest)


def write_attempt(attempt: ConsentAttempt) -> str:
    """What of the attempt its answer is checked by, as a text that `read_attempt` reads."""
    kept = {key: getattr(attempt, key) for key in _KEPT}
    return json.dumps({**kept, "login_url": attempt.cloud.login_url}, indent=2) + "\n"


def read_attempt(text: str, *, cloud: Cloud, client_id: str) -> ConsentAttempt:
    """The attempt that `write_attempt` wrote of that application in that cloud.

    Raises: ValueError: the end of a sentence that starts with the file's name.
    """
    try:
        kept = json.loads(text)
        given = {key: kept[key] for key in (*_KEPT, "login_url")}
        form = ConsentForm(given.pop("form"))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("is not what `m365watch consent url --keep` writes") from None
    if not all(isinstance(one, str) for one in given.values()):
        raise ValueError("is not what `m365watch consent url --keep` writes")
    if (given.pop("login_url"), given["client_id"]) != (cloud.login_url, client_id):
        raise ValueError("belongs to another application or cloud")
    return ConsentAttempt(form=form, cloud=cloud, **given)


def parse_redirect_uri(text: str) -> str:
    """The address unchanged, if an application can have it registered.

    Raises: ValueError: the end of a sentence that starts with it.
    """
    parts = split_url(text)
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not host or not text.isascii() or not text.isprintable():
        raise ValueError("is not an http or https URL")
    if parts.query or parts.fragment or "@" in parts.netloc or " " in text:
        raise ValueError("has a user name, a query or a fragment")
    if parts.scheme == "http" and host not in LOOPBACK_HOSTS:
        raise ValueError("is http; Entra takes that for loopback hosts only")
    return text


LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1"})
"""The names of this machine that a browser's answer may come to."""


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
