"""Whether a record names something that is known to be bad."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m365watch.detect.fields import Value, View

_HOST = re.compile(r"(?:[a-z][a-z0-9+.-]{0,20}://)?(?:[^/?#@\s]{0,200}@)?\[?([^/?#:\]\s]{1,253})")
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
    "FileData.SHA256",
    "AttachmentData.SHA256",
    "SenderIp",
    "P2Sender",
    "UserIp",
)


def indicator(view: View) -> tuple[Value, ...]:
    """Those values of the record that are on a list of indicators, in lower case."""
    bad = view.knowledge.indicators
    if not bad:
        return ()
    words: dict[str, None] = {}
    for name in _FIELDS:
        for value in view.values(name):
            text = str(value).lower()
            words[text] = None
            if "@" in text:
                words[text.rpartition("@")[2]] = None
    for value in view.values("Url"):
        text = str(value).lower()
        host = _HOST.match(text)
        words[text] = None
        words[host[1] if host else ""] = None
    words.pop("", None)
    return tuple(word for word in words if word in bad)
