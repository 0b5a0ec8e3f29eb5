"""Signing in with Entra: to its page with a code challenge, back with a code, and an id token for it.

Discovery goes to the configured issuer alone, and nothing that it answers leads to another host.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

import msgspec
from yarl import URL

from m365watch.board.access.entra_refusals import NotSignedIn, refusal_of
from m365watch.board.access.id_token import (
    Expected,
    Keys,
    KeyUnknown,
    TokenWrong,
    access_in,
    has_too_many_groups,
    judge,
    read_keys,
)
from m365watch.board.access.roles import Access
from m365watch.common import base64url
from m365watch.common.clock import Clock
from m365watch.common.errors import BadAnswer, RetryLater
from m365watch.common.urls import split_url
from m365watch.config.models.listeners_listening import EntraSignInSettings
from m365watch.http.session import Session

BACK = "/sign-in/entra/back"
_NOT_SAID = "Microsoft did not sign you in, and did not say why."
_TOO_MANY_GROUPS = "You are in too many groups for Microsoft to name them: ask for an app role."
_NO_ROLE = (
    "Your account has no role here. Ask whoever runs the board for one, or sign in with another account."
)
UNDER_WAY_MAX = 1_000
UNDER_WAY_S = 600.0
DOCUMENT_S = 86_400.0
KEYS_AGAIN_S = 60.0
"""How often the keys are asked for at most because a token names one that is not known."""


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A browser that was sent to Entra."""

    browser: str
    nonce: str
    verifier: str
    back: str
    ends_at_s: float


@dataclass(frozen=True, slots=True)
class _Places:
    """What discovery has told."""

    authorize: str
    token: str
    keys: str
    known_at_s: float


class OpenIdSignIn:
    """The sign-in with one application of Entra's."""

    def __init__(
        self, settings: EntraSignInSettings, session: Session, *, address: str, clock: Clock
    ) -> None:
        """`address` is where browsers reach the board; nothing is asked yet."""
        self._settings = settings
        self._session = session
        self._redirect_uri = f"{address}{BACK}"
        self._clock = clock
        self._under_way: OrderedDict[str, _UnderWay] = OrderedDict()
        self._places: _Places | None = None
        self._keys: Keys = {}
        self._keys_at_s = 0.0

    async def begin(self, browser: str, *, back: str, chooses: bool = False) -> str:
        """The URL at Entra that the browser is sent to; where it `chooses`, it is asked for the account.

        Raises: NotSignedIn; RetryLater.
        """
        places = await self._discover()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        now_s = self._now_s()
        self._under_way[state] = _UnderWay(browser, nonce, verifier, back, now_s + UNDER_WAY_S)
        while len(self._under_way) > UNDER_WAY_MAX:
            self._under_way.popitem(last=False)
        asked = {
            "client_id": self._settings.client_id,
            "response_type": "code",
            "redirect_uri": self._redirect_uri,
            "response_mode": "query",
            "scope": "openid profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": base64url.encoded(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
            **({"prompt": "select_account"} if chooses else {}),
        }
        return f"{places.authorize}?{urlencode(asked)}"

    async def end(self, browser: str, query: Mapping[str, str]) -> tuple[Access, str]:
        """Who came back with this query, and where they wanted to go.

        Raises: NotSignedIn; RetryLater; TokenWrong.
        """
        begun = self._under_way.pop(query.get("state", ""), None)
        is_theirs = begun is not None and hmac.compare_digest(begun.browser.encode(), browser.encode())
        if begun is None or not is_theirs or self._now_s() >= begun.ends_at_s:
            raise NotSignedIn("This sign-in took too long, or began elsewhere. Try again.")
        try:
            return await self._admit(query, begun), begun.back
        except NotSignedIn as refused:
            refused.back = begun.back
            raise

    async def _admit(self, query: Mapping[str, str], begun: _UnderWay) -> Access:
        if "error" in query or not query.get("code"):
            raise refusal_of(query, redirect_uri=self._redirect_uri) or NotSignedIn(_NOT_SAID)
        token = await self._redeem(query["code"], begun)
        claims = await self._judge(token, begun)
        access = access_in(claims, self._settings.grants)
        if access is None and has_too_many_groups(claims):
            raise NotSignedIn(_TOO_MANY_GROUPS, wants_other=True)
        if access is None:
            raise NotSignedIn(_NO_ROLE, wants_other=True)
        return access

    async def _redeem(self, code: str, begun: _UnderWay) -> str:
        places = await self._discover()
        form = {
            "client_id": self._settings.client_id,
            "client_secret": self._settings.client_secret.reveal(),
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": begun.verifier,
            "scope": "openid profile",
        }
        said = await self._ask("POST", places.token, form=urlencode(form).encode())
        token = said.get("id_token")
        if not isinstance(token, str):
            raise BadAnswer("the answer has no id token", where="signing in with Entra")
        return token

    async def _judge(self, token: str, begun: _UnderWay) -> Mapping[str, object]:
        expected = Expected(self._settings.issuer, self._settings.client_id, begun.nonce)
        try:
            return judge(token, await self._known_keys(), expected, now_s=self._now_s())
        except KeyUnknown:
            keys = await self._known_keys(anew=True)
            return judge(token, keys, expected, now_s=self._now_s())

    async def _discover(self) -> _Places:
        if self._places is None or self._now_s() - self._places.known_at_s >= DOCUMENT_S:
            said = await self._ask("GET", f"{self._settings.issuer}/.well-known/openid-configuration")
            if said.get("issuer") != self._settings.issuer:
                raise BadAnswer("the issuer calls itself otherwise", where="signing in with Entra")
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            authorize, token, keys = (self._own(said.get(name)) for name in names)
            self._places = _Places(authorize, token, keys, self._now_s())
        return self._places

    def _own(self, url: object) -> str:
        """The URL, if it is at the issuer's own host."""
        text = str(url)
        ours, theirs = split_url(self._settings.issuer), split_url(text)
        # Blanks and line breaks, which a split leaves out, would stand in the request.
        is_whole = text.isprintable() and " " not in text
        if not is_whole or not ours.netloc or ours[:2] != theirs[:2]:
            raise BadAnswer("the issuer names another host than its own", where="signing in with Entra")
        return text

    async def _known_keys(self, *, anew: bool = False) -> Keys:
        age_s = self._now_s() - self._keys_at_s
        if not self._keys or age_s >= DOCUMENT_S or (anew and age_s >= KEYS_AGAIN_S):
            places = await self._discover()
            self._keys = read_keys(await self._ask("GET", places.keys))
            self._keys_at_s = self._now_s()
        return self._keys

    async def _ask(self, method: str, url: str, *, form: bytes | None = None) -> dict[str, object]:
        headers = {"Accept": "application/json"}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        where = "signing in with Entra"
        answer = await self._session.send(
            method, URL(url, encoded=True), headers=headers, where=where, form=form
        )
        said = _object_in(answer.body)
        if answer.status != HTTPStatus.OK:
            refusal = refusal_of(said or {}, redirect_uri=self._redirect_uri)
            raise refusal or BadAnswer(f"HTTP {answer.status}", where=where)
        if said is None:
            raise BadAnswer("the answer is no JSON object", where=where)
        return said

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _object_in(body: bytes) -> dict[str, object] | None:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


__all__ = ["BACK", "NotSignedIn", "OpenIdSignIn", "RetryLater", "TokenWrong"]
