"""Signing in with Entra: to its page with a code challenge, back with a code, and an id token for it.

Discovery goes to the configured issuer alone, and nothing that it answers leads to another host.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

import msgspec
from yarl import URL

from m365watch.auth.refusals import code_of
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
from m365watch.config.models.listeners import EntraSection
from m365watch.http.client import Session

_ERROR = re.compile(r"[a-z_]{1,40}")
_RUNS = "Whoever runs the board has to see to it."
_SECRET_FIX = (
    "create a client secret for the application in Entra, and put its value where board.entra has it"
)
_REDIRECT_FIX = (
    "give the application in Entra the redirect URI (web) {redirect_uri}, or correct board.address"
)
_ASSIGN_FIX = (
    "assign the person, or a group of theirs, to the enterprise application in Entra, with an app role"
)
_CONSENT_FIX = "grant admin consent for the application's permissions in Entra (openid, profile)"
_TENANT_FIX = "correct board.entra.tenant_id"
_CLIENT_FIX = (
    "correct board.entra.client_id: the application's id, of an application of board.entra.tenant_id"
)


@dataclass(frozen=True, slots=True)
class SignInRefusal:
    """What one code means where somebody signs in."""

    cause: str
    says: str
    """For the page: to whoever is refused."""
    fix: str
    """For the log: to whoever runs the board."""
    wants_other: bool = False
    """Whether another account of theirs may be let in."""


_AGAIN = SignInRefusal("the sign-in took too long, or was sent twice", "Sign in again.", "")
_SECRET_WRONG = SignInRefusal(
    "the client secret is wrong",
    f"The board's client secret is not the one that Microsoft knows. {_RUNS}",
    f"{_SECRET_FIX} (its value, not its id)",
)
_REDIRECT = SignInRefusal(
    "the redirect URI is not one of the application's",
    f"Microsoft does not know this address of the board. {_RUNS}",
    _REDIRECT_FIX,
)
_NO_TENANT = SignInRefusal(
    "the tenant was not found",
    f"The board asks for a tenant that Microsoft does not have. {_RUNS}",
    _TENANT_FIX,
)
_NO_CONSENT = SignInRefusal(
    "nobody has consented to the application",
    "Your organisation has not consented to the board's application. Ask an administrator of Entra to do so.",
    _CONSENT_FIX,
)
REFUSALS: Mapping[int, SignInRefusal] = {
    50011: _REDIRECT,
    500112: _REDIRECT,
    50020: SignInRefusal(
        "the account is of another tenant",
        "Your account is of another organisation than the board's. Sign in with one of this organisation.",
        f"{_TENANT_FIX}, or invite the person into the tenant as a guest",
        wants_other=True,
    ),
    50105: SignInRefusal(
        "the person is not assigned to the application",
        "Your account is not assigned to the board's application. Ask whoever runs the board to assign it.",
        _ASSIGN_FIX,
        wants_other=True,
    ),
    53003: SignInRefusal(
        "a Conditional Access policy blocks the sign-in",
        "A policy of your organisation does not let you sign in from here or with this device.",
        "look at the sign-in in Entra's log: it names the policy",
    ),
    54005: _AGAIN,
    70000: _AGAIN,
    70008: _AGAIN,
    65001: _NO_CONSENT,
    65004: SignInRefusal(
        "the person did not consent to the application",
        "You have not consented to the board's application. Accept it, or ask an administrator of Entra.",
        _CONSENT_FIX,
    ),
    90094: _NO_CONSENT,
    90002: _NO_TENANT,
    900023: _NO_TENANT,
    700016: SignInRefusal(
        "the application was not found in the tenant",
        f"Microsoft does not know the board's application. {_RUNS}",
        f"{_CLIENT_FIX}; {_TENANT_FIX}",
    ),
    7000112: SignInRefusal(
        "the application is disabled in the tenant",
        f"The board's application is disabled in Entra. {_RUNS}",
        "enable the enterprise application in Entra",
    ),
    7000215: _SECRET_WRONG,
    7000218: _SECRET_WRONG,
    7000222: SignInRefusal(
        "the client secret has expired",
        f"The board's client secret at Microsoft has expired. {_RUNS}",
        _SECRET_FIX,
    ),
}


class NotSignedIn(Exception):
    """Entra did not say who it is, or they have no role; the words are for the page."""

    def __init__(
        self, says: str, *, told: str = "", wants_other: bool = False, is_ours: bool = False
    ) -> None:
        """`told` is for the log; `is_ours` says that nobody comes in before the board is mended."""
        super().__init__(says)
        self.told = told
        self.wants_other = wants_other
        self.is_ours = is_ours
        self.back = "/"
        """Where they wanted to go, which another try leads to."""


def refusal_of(said: Mapping[str, object], *, redirect_uri: str) -> NotSignedIn | None:
    """What Entra's answer amounts to; None where it names neither a code nor an error."""
    code, error = code_of(said), str(said.get("error"))
    named = error if _ERROR.fullmatch(error) and said.get("error") else ""
    if code is None and not named:
        return None
    known = REFUSALS.get(code) if code is not None else None
    name = ", ".join(one for one in (named, f"AADSTS{code}" if code is not None else "") if one)
    if known is None:
        fix = f"; see https://login.microsoftonline.com/error?code={code}" if code is not None else ""
        return NotSignedIn(f"Microsoft did not sign you in ({name}).", told=f"{name}{fix}")
    fix = f"; {known.fix.format(redirect_uri=redirect_uri)}" if known.fix else ""
    return NotSignedIn(
        f"{known.says} (AADSTS{code})",
        told=f"{name}: {known.cause}{fix}",
        wants_other=known.wants_other,
        is_ours=_RUNS in known.says,
    )


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

    def __init__(self, settings: EntraSection, session: Session, *, address: str, clock: Clock) -> None:
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
            "client_secret": self._settings.client_secret.get_secret_value(),
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
