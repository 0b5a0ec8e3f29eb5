"""What analysts do on the pages: an alert's state, changed in their name."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from m365watch.board.access.audit_recorder import tell
from m365watch.board.access.redaction import SeenAlert
from m365watch.board.access.roles import Role
from m365watch.board.app.responses import said
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.query_context import View
from m365watch.common.errors import CollectorError
from m365watch.detection.alerts.alert import TEXT_MAX, clean_text
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.alerts.triage import AlertClosed, NoSuchAlert

BODY_BYTES_MAX = 65_536
REASON_MAX = TEXT_MAX
AT_ONCE_MAX = 500
"""Alerts that one request changes."""


class StatesAsked(msgspec.Struct, forbid_unknown_fields=True):
    """What a page sends."""

    ids: Sequence[str]
    state: AlertState
    reason: str = ""


class NotAsked(Exception):
    """What was asked for cannot be meant; the text says why."""


async def change_states(request: Request, view: View, sources: Sources) -> Response:
    """Put the alerts that the request names into a state; what became of it, as JSON."""
    if not view.access.may(Role.ANALYST):
        return said(403, "your role may not change alerts")
    try:
        asked = msgspec.json.decode(await body_of(request), type=StatesAsked)
        changed = await put_states(view, sources, asked)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return said(400, f"this request cannot be read: {error}")
    except NotAsked as error:
        return said(400, str(error))
    except NoSuchAlert as error:
        return said(404, str(error))
    except AlertClosed as error:
        return said(409, str(error))
    except CollectorError as error:
        return said(503, error.what)
    tell(request.scope, f"{asked.state}: {' '.join(one.alert.id for one in changed)}")
    words = "1 alert is" if len(changed) == 1 else f"{len(changed)} alerts are"
    return said(200, f"{words} {asked.state}")


async def put_states(view: View, sources: Sources, asked: StatesAsked) -> list[SeenAlert]:
    """Put the alerts into the state, all of them or none; what they are then.

    Raises: NotAsked; NoSuchAlert; AlertClosed; CollectorError: they cannot be read or written.
    """
    reason = clean_text(asked.reason)
    if not 0 < len(asked.ids) <= AT_ONCE_MAX:
        raise NotAsked(f"name 1 to {AT_ONCE_MAX} alerts")
    if len(asked.reason.strip()) > REASON_MAX:
        raise NotAsked(f"the reason has {len(asked.reason.strip()):,} characters: {REASON_MAX} at most")
    if asked.state is AlertState.CLOSED and not reason:
        raise NotAsked("say what it was: closing needs a reason")
    return await sources.change_alerts(view, asked.ids, asked.state, reason=reason)


async def body_of(request: Request, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """What the request brings. Raises: DecodeError: it is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > bytes_max:
            raise msgspec.DecodeError("it is too long")
    return body
