"""The scopes and grants of a consent, out of the text that Entra writes down for one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from m365watch.detection.fields.privilege_ranking import gravest_first

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

_FIELDS = (
    "ModifiedProperties.ConsentAction.Permissions.new",
    "ModifiedProperties.DelegatedPermissionGrant.Scope.new",
    "ModifiedProperties.OAuth2PermissionGrant.Scope.new",
    "ModifiedProperties.AppRole.Value.new",
)
_GRANT = re.compile(r"\[Id:[^\]]*\]")
_TYPE = re.compile(r"ConsentType:\s*(\w+)")
_SCOPE = re.compile(r"\bScope:\s*([^\],\r\n]*)")
_PLAIN = re.compile(r"[^\s,;\[\]\"]+")
_TEXT_MAX = 262_144
_SCOPES_MAX = 1_000
_MADE = re.compile(r"\[Id: *([A-Za-z0-9_-]{2,100}),")
_NO_CLIENT = re.compile(r"ClientId: *00000000-0000-0000-0000-000000000000\b|\[Id: *AAAAAAAAAAAAAAAAAAAAA")
"""A grant's id begins with its client's, which is all zeros here."""


def scopes(view: View) -> tuple[Value, ...]:
    """Each scope or role that the record says is granted now, each once, as written, the gravest first.

    Entra writes `[old grants] => [[Id: ..., ConsentType: ..., Scope: A B], ...]`; what stands before the
    arrow was granted before.
    """
    found: dict[str, None] = {}
    for name in _FIELDS:
        for value in view.values(name):
            if isinstance(value, str):
                found.update(dict.fromkeys(_scopes_in(value[:_TEXT_MAX])))
    return tuple(gravest_first(found)[:_SCOPES_MAX])


def _scopes_in(text: str) -> list[str]:
    before, arrow, after = text.partition("=>")
    if not arrow:
        return _words(_SCOPE.findall(text)) if "Scope:" in text else _PLAIN.findall(text)
    old = set(_words(_SCOPE.findall(before)))
    now = _words(_SCOPE.findall(after))
    # Where both sides are the same, which scopes are new is not told: all are what was consented to.
    return now if old == set(now) else [scope for scope in now if scope not in old]


def consent_types(view: View) -> tuple[Value, ...]:
    """For whom the grants are that the record says are given now: AllPrincipals, Principal; each once.

    A grant that stood before the arrow already, word for word, is not given now.
    """
    found: dict[str, None] = {}
    for value in view.values("ModifiedProperties.ConsentAction.Permissions.new"):
        if isinstance(value, str):
            before, arrow, after = value[:_TEXT_MAX].partition("=>")
            old = set(_GRANT.findall(before)) if arrow else set()
            now = _GRANT.findall(after if arrow else before)
            given = " ".join(grant for grant in now if grant not in old)
            found.update(dict.fromkeys(_TYPE.findall(given)))
    return tuple(found)


def made_grants(view: View) -> tuple[Value, ...]:
    """The ids of the grants that a consent made; none where not all of them are known.

    A grant that stood before got more, and is not made now. Where the application came to the tenant with
    this very consent, the text has no client yet, and an id that no grant has.
    """
    found: dict[str, None] = {}
    for value in view.values("ModifiedProperties.ConsentAction.Permissions.new"):
        before, arrow, after = str(value)[:_TEXT_MAX].partition("=>")
        ids = [one[1] for one in map(_MADE.match, _GRANT.findall(after)) if one]
        is_whole = after.rstrip('; \t\r\n"').endswith("]]")
        is_certain = arrow and is_whole and len(ids) == after.count("[Id:") and not _NO_CLIENT.search(after)
        if not is_certain or any(one in before for one in ids):
            return ()
        found.update(dict.fromkeys(ids))
    return tuple(found)


def _words(texts: list[str]) -> list[str]:
    return [word for text in texts for word in text.split()]
