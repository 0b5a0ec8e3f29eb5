"""Why Entra gave no token, and what a person can do about it.

Source: api-contract 1.7, after Entra's "authentication and authorization error codes". The
codes decide; the words of an answer are quoted, never branched on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from m365watch.common.errors import (
    BadAnswer,
    CollectorError,
    ConsentMissing,
    CredentialsRefused,
    Throttled,
    Unavailable,
)
from m365watch.common.text import one_line
from m365watch.registry.credential_specs import CREDENTIALS, spec_named


@dataclass(frozen=True, slots=True)
class Refusal:
    """One AADSTS code."""

    code: int
    cause: str
    fix: str = ""
    """One imperative sentence without its full stop; empty where waiting is all there is to do, and of codes
    about credentials, whose kinds say it."""
    becomes: type[CredentialsRefused | Throttled | Unavailable] = CredentialsRefused

    def fix_for(self, name: str) -> str:
        """What to do about it where the credential under the key `name` was used; "" for any."""
        used = spec_named(name)
        if used is not None and self.code in used.fixes:
            return used.fixes[self.code].replace(f"credentials.{used.key}", f"credentials.{name}")
        of_others = (spec.fixes[self.code] for spec in CREDENTIALS.specs if self.code in spec.fixes)
        return self.fix or next(of_others, "")


_TENANT = "correct credentials.tenant_id, and set `cloud` to the one the tenant lives in"
_CONSENT = "correct credentials.client_id, or let the tenant's administrator consent: `m365watch consent`"
_RESOURCE = (
    "grant the application a permission of Office 365 Management APIs and admin consent, "
    "and set `cloud` to the one the tenant lives in"
)
_POLICY = "exempt the application from the Conditional Access policy, or run where the policy allows it"
_BUG = "report this: the request for a token is not as Entra wants it"
_CONSENT_AGAIN = "start `m365watch consent serve` again and open the address that it prints"
_CLOUD = "set `cloud` to the one the tenant lives in"
_AUDIENCE = "correct cloud.audience: one resource, as https://host"
_CLOCK = "set this machine's clock right"
_NOT_PUBLIC = "switch `Allow public client flows` off for the application in Entra, under Authentication"
PASSING_FIX = "wait some minutes and try again; where it lasts, look at Microsoft's service health"
"""What a person can do about a failure of Entra's own."""

REFUSALS = (
    Refusal(50012, "the client assertion does not fit the token endpoint", _CLOUD),
    Refusal(50013, "the client assertion's signature is not valid"),
    Refusal(50027, "the client assertion is not valid"),
    Refusal(53003, "a Conditional Access policy blocks the application", _POLICY),
    Refusal(54005, "the authorization code was used already", _CONSENT_AGAIN),
    Refusal(65001, "nobody has consented to the application", _CONSENT, becomes=ConsentMissing),
    Refusal(70000, "the authorization code is not valid", _CONSENT_AGAIN),
    Refusal(70008, "the authorization code has expired", _CONSENT_AGAIN),
    Refusal(70011, "the scope is not valid", _AUDIENCE),
    Refusal(70021, "no federated credential fits the token"),
    Refusal(90002, "the tenant was not found", _TENANT),
    Refusal(90006, "Entra has a passing failure", becomes=Unavailable),
    Refusal(90011, "the client id is ambiguous", _CONSENT),
    Refusal(90012, "Entra took too long", becomes=Unavailable),
    Refusal(90024, "Entra is busy", becomes=Unavailable),
    Refusal(90033, "Entra has a passing failure", becomes=Unavailable),
    Refusal(90055, "Entra throttles the tenant", becomes=Throttled),
    Refusal(500011, "the Management API is not known in the tenant", _RESOURCE, becomes=ConsentMissing),
    Refusal(
        500112,
        "the redirect URI is not that of the request for the code",
        "give the redirect URI that the code was asked for with, by --redirect-uri",
    ),
    Refusal(501481, "the code was asked for with another PKCE verifier", _CONSENT_AGAIN),
    Refusal(
        650052,
        "the organisation has no subscription to the Management API",
        _RESOURCE,
        becomes=ConsentMissing,
    ),
    Refusal(
        650057, "the application has not asked for the Management API", _RESOURCE, becomes=ConsentMissing
    ),
    Refusal(700016, "the application was not found in the tenant", _CONSENT, becomes=ConsentMissing),
    Refusal(700024, "the client assertion is outside its time", _CLOCK),
    Refusal(700025, "the application is public and may not send a credential", _NOT_PUBLIC),
    Refusal(700027, "the certificate is not registered on the application"),
    Refusal(700030, "the certificate's subject is not authorised"),
    Refusal(700211, "no federated credential has the token's issuer"),
    Refusal(700212, "no federated credential has the token's audience"),
    Refusal(700213, "no federated credential has the token's subject"),
    Refusal(700229, "only an application's own token may stand for it"),
    Refusal(900023, "the tenant id is neither a GUID nor a domain of Entra", _TENANT),
    Refusal(900144, "a field is missing in the request", _BUG),
    Refusal(900382, "the application belongs to another cloud", _CLOUD),
    Refusal(900432, "the application belongs to another cloud", _CLOUD),
    Refusal(1002012, "the scope is not valid", _AUDIENCE),
    Refusal(
        7000112,
        "the application is disabled in the tenant",
        "enable the enterprise application in Entra",
        becomes=ConsentMissing,
    ),
    Refusal(7000215, "the client secret is wrong"),
    Refusal(7000218, "no credential was sent", "set credentials.client_secret, or another credential"),
    Refusal(7000229, "the tenant has no enterprise application for it", _CONSENT, becomes=ConsentMissing),
    Refusal(7000222, "the client secret has expired"),
)
"""Every code that has been met or documented for this grant."""

_BY_CODE = {refusal.code: refusal for refusal in REFUSALS}
_NUMBER = re.compile(r"[0-9]{4,8}")
CODE_IN_TEXT = re.compile(r"AADSTS(\d{4,8})")
_PASSING = frozenset({"temporarily_unavailable", "server_error"})
_OAUTH = frozenset(
    {
        "access_denied",
        "interaction_required",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_resource",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)
_UNKNOWN_FIX = "check credentials, consent and `cloud` of this tenant against the words of Entra"


def token_refusal(
    said: Mapping[str, object], *, where: str, hide: Iterable[str], name: str = ""
) -> CollectorError:
    """The error that an answer of the token endpoint without a token amounts to.

    `said` is its JSON object; each of `hide` is blotted out of the words that are quoted. Where a person
    has to act, the cure is that for the credential under the key `name` of `credentials`.
    """
    named_error = str(said.get("error"))
    description = said.get("error_description")
    words = one_line(description, hide=hide) if isinstance(description, str) else ""
    code = _code(said.get("error_codes"), words)
    refusal = None if code is None else _BY_CODE.get(code)
    if refusal is not None:
        return _error(refusal, words, where=where, name=name)
    if named_error in _PASSING:
        return Unavailable(f"Entra has a passing failure{_quoted(words)}", where=where)
    if code is not None or named_error in _OAUTH:
        named = f"AADSTS{code}" if code is not None else named_error
        what = f"Entra gives no token: {named}{_quoted(words)}"
        return CredentialsRefused(what, fix=_UNKNOWN_FIX, where=where)
    return BadAnswer("the token endpoint gave neither a token nor a known error", where=where)


def code_of(said: Mapping[str, object]) -> int | None:
    """The AADSTS code of an answer without a token; None where it names none."""
    return _code(said.get("error_codes"), str(said.get("error_description")))


def is_known(code: int) -> bool:
    """Whether the code is one of `REFUSALS`."""
    return code in _BY_CODE


def is_refusal(said: object) -> bool:
    """Whether `said` is an error of a token endpoint, rather than of a server that has none there."""
    if not isinstance(said, dict):
        return False
    kind = said.get("error")
    known = isinstance(kind, str) and (kind in _OAUTH or kind in _PASSING)
    return known or _code(said.get("error_codes"), str(said.get("error_description"))) is not None


def _error(refusal: Refusal, words: str, *, where: str, name: str) -> CollectorError:
    what = f"AADSTS{refusal.code}: {refusal.cause}{_quoted(words)}"
    becomes = refusal.becomes
    if issubclass(becomes, CredentialsRefused):
        return becomes(what, fix=refusal.fix_for(name), where=where)
    return becomes(what, where=where)


def _quoted(words: str) -> str:
    return f' ("{words}")' if words else ""


def _code(codes: object, words: str) -> int | None:
    """The first known code, or else the first of all; None without one."""
    listed = codes if isinstance(codes, list) else []
    said = [str(code) for code in listed if isinstance(code, str) or _is_small(code)]
    numbers = [int(code) for code in said if _NUMBER.fullmatch(code)]
    numbers += [int(code) for code in CODE_IN_TEXT.findall(words)]
    return next((code for code in numbers if code in _BY_CODE), numbers[0] if numbers else None)


def _is_small(code: object) -> bool:
    return isinstance(code, int) and 0 < code < 10**8
