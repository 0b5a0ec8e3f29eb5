"""How a tenant's administrator is asked to consent: the addresses to open, and what belongs to one try.

Source: api-contract 1.8; RFC 7636 (PKCE) for the code's verifier.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self
from urllib.parse import quote, urlencode

from m365watch.common import base64url
from m365watch.common.urls import split_url
from m365watch.config.models.settings import Cloud

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
