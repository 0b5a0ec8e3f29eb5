"""What a consent leaves in one tenant: the application is known, and codes are handed out for it.

A code is good once, for a while, and for who asked.

Source: api-contract 1.8; RFC 6749 4.1 and RFC 7636 for what is checked. Codes of the errors are those
of Entra's published list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from m365watch.common import base64url
from m365watch_simulator.entra.aadsts import aadsts
from m365watch_simulator.service.scenario import Behaviour


class Consent:
    """Whether a tenant knows the application, and from when on."""

    def __init__(self, behaviour: Behaviour) -> None:
        """Known from the start unless the scenario says otherwise."""
        self._behaviour = behaviour
        self._is_withdrawn = False
        self._given_at: datetime | None = None

    def give(self, now: datetime) -> None:
        """An administrator consents; it takes effect after the scenario's delay."""
        if self._given_at is None:
            self._given_at = now + timedelta(seconds=self._behaviour.consent_delay_s)

    def withdraw(self) -> None:
        """An administrator deletes the application from the tenant, which may consent again."""
        self._is_withdrawn, self._given_at = True, None

    def is_given(self, now: datetime) -> bool:
        """Whether tokens are handed out."""
        stands = self._behaviour.consented and not self._is_withdrawn
        return stands or (self._given_at is not None and now >= self._given_at)


@dataclass(slots=True)
class _Code:
    redirect_uri: str
    challenge: str
    """Of PKCE, method S256; "" without."""
    expires_at: datetime
    version: int
    """Of the endpoint that handed it out; only the token endpoint of the same takes it."""
    is_used: bool = False


class Codes:
    """The codes of one tenant's application."""

    def __init__(self, *, seed: str, life_s: int) -> None:
        """`seed` decides what the codes look like."""
        self._random = Random(f"{seed}/codes")
        self._life_s = life_s
        self._issued: dict[str, _Code] = {}

    def issue(self, *, redirect_uri: str, challenge: str, version: int, now: datetime) -> str:
        """A new code."""
        text = f"1.{base64url.encoded(self._random.randbytes(96))}"
        expires_at = now + timedelta(seconds=self._life_s)
        self._issued[text] = _Code(redirect_uri, challenge, expires_at, version)
        return text

    def knows(self, code: str) -> bool:
        """Whether the code is one of this tenant's."""
        return code in self._issued

    def redeem(self, form: Mapping[str, str], *, version: int, now: datetime) -> None:
        """Return if the form's code is good, which it then is no more.

        Raises: Refusal: 900144, 70000, 54005, 70008, 500112, 501481.
        """
        for name in ("code", "redirect_uri"):
            if not form.get(name):
                raise aadsts(900144, name, now=now)
        code = self._issued.get(form["code"])
        if code is None or code.version != version:
            raise aadsts(70000, now=now)
        if code.is_used:
            raise aadsts(54005, now=now)
        if now >= code.expires_at:
            raise aadsts(70008, now=now)
        if form["redirect_uri"] != code.redirect_uri:
            raise aadsts(500112, now=now)
        if _challenge_of(form.get("code_verifier", "")) != code.challenge:
            raise aadsts(501481, now=now)
        code.is_used = True


def _challenge_of(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64url.encoded(digest) if verifier else ""
