"""Whether a record names something that is known to be bad."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m365watch.detect.fields import Value, View

_FIELDS = (
    "m365.ip",
    "ClientAppId",
    "ApplicationId",
    "AppId",
    "AppAccessContext.ClientAppId",
    "ObjectId",
    "m365.recipients",
    "m365.external_target",
    "SourceFileName",
)


def indicator(view: View) -> tuple[Value, ...]:
    """Those values of the record that are on a list of indicators, in lower case."""
    bad = view.knowledge.indicators
    if not bad:
        return ()
    found: dict[str, None] = {}
    for name in _FIELDS:
        for value in view.values(name):
            text = str(value).lower()
            domain = text.rpartition("@")[2]
            found.update((one, None) for one in (text, domain) if one in bad)
    return tuple(found)
