"""With what somebody came: user agent, its family, session, application, mailbox."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

_AGENTS = (
    "ExtendedProperties.UserAgent",
    "UserAgent",
    "ExtendedProperties.additionalDetails.User-Agent",
    "ClientInfoString",
    "ActorInfoString",
)
_SESSIONS = ("DeviceProperties.SessionId", "AppAccessContext.AADSessionId", "SessionId", "UserSessionId")
APPS = ("ClientAppId", "ApplicationId", "AppId", "AppAccessContext.ClientAppId")
"""Where a record has the application that acted, the surest first."""
_MAILBOXES = ("MailboxOwnerUPN", "Parameters.Mailbox", "Parameters.Identity", "ObjectId", "UserId")

_FAMILIES = (
    ("edge", re.compile(r"\bEdg(?:e|A|iOS)?/", re.IGNORECASE)),
    ("opera", re.compile(r"\bOPR/|\bOpera\b", re.IGNORECASE)),
    ("chrome", re.compile(r"\bChrome/|\bCriOS/", re.IGNORECASE)),
    ("firefox", re.compile(r"\bFirefox/|\bFxiOS/", re.IGNORECASE)),
    ("safari", re.compile(r"\bSafari/", re.IGNORECASE)),
    ("internet explorer", re.compile(r"\bTrident/|\bMSIE ", re.IGNORECASE)),
)
_FIRST_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,60}")
_TEXT_MAX = 4_096


def user_agent(view: View) -> tuple[Value, ...]:
    """The first of the fields that say what program was used; Exchange says it in `ClientInfoString`."""
    return _first_of(view, _AGENTS)


def user_agent_family(view: View) -> tuple[Value, ...]:
    """The browser's name, or the first word of what is none, without versions, in lower case."""
    family = _family_of(view.first("m365.user_agent")[:_TEXT_MAX])
    return (family,) if family else ()


@lru_cache(maxsize=8_192)
def _family_of(text: str) -> str:
    for family, pattern in _FAMILIES:
        if pattern.search(text):
            return family
    if text.lower().startswith("client="):
        # Client=OWA;Mozilla/5.0 ... and Client=REST;Client=RESTSystem;;
        return text.partition("=")[2].partition(";")[0].partition("/")[0].strip().lower()
    word = _FIRST_WORD.search(text)
    return word.group().lower() if word else ""


def session(view: View) -> tuple[Value, ...]:
    """The sign-in session's id, by whichever field has it, in lower case."""
    return tuple(str(value).lower() for value in _first_of(view, _SESSIONS))


def app(view: View) -> tuple[Value, ...]:
    """The id of the application that acted, in lower case."""
    return tuple(str(value).lower() for value in _first_of(view, APPS))


def mailbox(view: View) -> tuple[Value, ...]:
    """Whose mailbox it was about; for a cmdlet, which one it changed; in lower case."""
    return tuple(str(value).lower() for value in _first_of(view, _MAILBOXES))


def _first_of(view: View, names: tuple[str, ...]) -> tuple[Value, ...]:
    for name in names:
        for value in view.values(name):
            if value not in ("", None):
                return (value,)
    return ()
