"""Why Entra signed nobody in: its code in words, for whoever is at the door and for whoever runs the board.

Nothing of an answer is told on but its code and the name of its error: the rest may name people.

Source: Entra's "authentication and authorization error codes"; RFC 6749, sections 4.1.2.1 and 5.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from m365watch.auth.refusals import code_of

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
