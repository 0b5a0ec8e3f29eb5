"""An id token judged: signed by the issuer, for us, for this sign-in, and not over. Pure.

One algorithm is taken, RS256, whatever the token's head says; keys come from the issuer's own document alone.

Source: OpenID Connect Core 1.0, section 3.1.3.7.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from m365watch.board.access.roles import Access, Role
from m365watch.config.models.listeners import GrantSection

LEEWAY_S = 300
AGE_MAX_S = 900
"""A token is made for one sign-in, a moment before it is read."""
TOKEN_CHARACTERS_MAX = 65_536
KEY_BITS_MIN = 2_048
NAME_CHARACTERS_MAX = 120
Keys = Mapping[str, rsa.RSAPublicKey]


class TokenWrong(Exception):
    """Why the token is none of ours; for the log, never for a page."""


class KeyUnknown(TokenWrong):
    """It is signed with a key that is not known (yet)."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the token has to be."""

    issuer: str
    client_id: str
    nonce: str


def read_keys(document: object) -> dict[str, rsa.RSAPublicKey]:
    """The keys of the issuer's document by their ids; what is no RSA key for signatures is left out."""
    listed = document.get("keys") if isinstance(document, dict) else None
    found = {}
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, dict) or one.get("kty") != "RSA" or one.get("use", "sig") != "sig":
            continue
        try:
            n, e = (int.from_bytes(_decoded(str(one[name]))) for name in ("n", "e"))
            key = rsa.RSAPublicNumbers(e, n).public_key()
        except (KeyError, ValueError, TokenWrong):
            continue
        if key.key_size >= KEY_BITS_MIN and isinstance(one.get("kid"), str):
            found[one["kid"]] = key
    return found


def judge(token: str, keys: Keys, expected: Expected, *, now_s: float) -> Mapping[str, object]:
    """The claims of the token. Raises: TokenWrong; KeyUnknown: its key may have been published since."""
    parts = token.split(".") if len(token) <= TOKEN_CHARACTERS_MAX else []
    if len(parts) != 3:
        raise TokenWrong("it is no signed token")
    head, claims = _object(parts[0]), _object(parts[1])
    if head.get("alg") != "RS256" or "crit" in head:
        raise TokenWrong("it is not signed by RS256")
    key = keys.get(str(head.get("kid")))
    if key is None:
        raise KeyUnknown("its key is not among the issuer's")
    try:
        key.verify(_decoded(parts[2]), f"{parts[0]}.{parts[1]}".encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise TokenWrong("its signature is wrong") from None
    _judge_claims(claims, expected, now_s)
    return claims


def _judge_claims(claims: Mapping[str, object], expected: Expected, now_s: float) -> None:
    if claims.get("iss") != expected.issuer:
        raise TokenWrong("another issuer made it")
    if claims.get("aud") != expected.client_id:
        raise TokenWrong("it is for another application")
    if claims.get("nonce") != expected.nonce:
        raise TokenWrong("it is of another sign-in")
    if f"/{claims.get('tid')}/" not in expected.issuer:
        raise TokenWrong("it is of another tenant")
    ends, begins, made = (claims.get(name) for name in ("exp", "nbf", "iat"))
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in (ends, made)):
        raise TokenWrong("it does not say when it ends")
    if not now_s < int(str(ends)) + LEEWAY_S:
        raise TokenWrong("it is over")
    if not -LEEWAY_S <= now_s - int(str(made)) <= AGE_MAX_S:
        raise TokenWrong("it was made at another time")
    if isinstance(begins, int) and now_s < begins - LEEWAY_S:
        raise TokenWrong("it does not hold yet")


def access_in(claims: Mapping[str, object], grants: Sequence[GrantSection]) -> Access | None:
    """What the person may do: the first grant for a role or group of theirs; None where there is none."""
    have = {str(one) for name in ("roles", "groups") for one in _listed(claims.get(name))}
    grant = next((one for one in grants if one.claim in have), None)
    if grant is None:
        return None
    return Access(
        name_in(claims),
        Role[grant.role.upper()],
        tenants=frozenset(grant.tenants) if grant.tenants else None,
        sees_contents=grant.contents,
    )


def name_in(claims: Mapping[str, object]) -> str:
    """What the person is called, where that is written down."""
    named = claims.get("preferred_username") or claims.get("oid") or claims.get("sub") or "somebody"
    return "".join(one for one in str(named) if one.isprintable())[:NAME_CHARACTERS_MAX]


def has_too_many_groups(claims: Mapping[str, object]) -> bool:
    """Whether Entra left the groups out, because they are too many for a token."""
    elsewhere = claims.get("_claim_names")
    return bool(claims.get("hasgroups")) or (isinstance(elsewhere, dict) and "groups" in elsewhere)


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _object(part: str) -> dict[str, object]:
    try:
        found = msgspec.json.decode(_decoded(part))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise TokenWrong("it cannot be read") from None
    if not isinstance(found, dict):
        raise TokenWrong("it cannot be read")
    return found


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenWrong("it cannot be read") from None
