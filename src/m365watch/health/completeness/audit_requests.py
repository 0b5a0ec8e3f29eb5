"""How a command asks the collector that holds the ledger for an audit: two small files beside the ledger.

Each command leaves a request of its own and gets an answer of its own, so that several may ask at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from m365watch.common.errors import LedgerUnusable
from m365watch.common.model import Feed, TenantId, content_named
from m365watch.health.completeness.auditor import AuditOrder
from m365watch.health.completeness.feed_audit import GARBLED, FeedAudit, audit_of, body_of
from m365watch.ledger.lock import cure_beside_collector

REQUESTS = "audit-*.request"
"""The requests in the state directory; the star stands for the request's number."""
ANSWERS = "audit-*.answer"
TAKEN_WITHIN_S = 60.0
"""A collector that runs takes a request within this time."""
LOOK_EVERY_S = 5.0
"""How often it looks."""
ANSWER_KEPT_S = 3_600.0
"""How much older than the next answer one may be that nobody has taken."""
PROGRESS_NAME = "audit progress"
"""The name in the ledger's memory under which it says how far it is."""
_BYTES_MAX = 1_000
_DAYS = range(1, 8)


def leave_request(directory: Path, order: AuditOrder) -> None:
    """Put `order` where the collector of the state directory finds it.

    Raises: LedgerUnusable: the file cannot be written.
    """
    path = _place(directory, REQUESTS, order.number)
    body = json.dumps({"number": order.number, "days": order.days, "repair": order.repair})
    try:
        _put(path, body)
    except OSError as error:
        raise LedgerUnusable(
            f"the running collector cannot be asked ({error.strerror or error})",
            where=str(path),
            fix=cure_beside_collector(error),
        ) from error


def take_request(directory: Path) -> AuditOrder | None:
    """The order that was left first, which is then no longer there; None if there is none, or no sense."""
    try:
        # Every few seconds: a glob takes several times as long to find nothing.
        with os.scandir(directory) as files:
            requests = [directory / file.name for file in files if fnmatchcase(file.name, REQUESTS)]
        path = min(requests, key=lambda one: one.stat().st_mtime_ns, default=None)
        if path is None:
            return None
        with path.open("rb") as file:
            body = file.read(_BYTES_MAX)
        path.unlink()
    except OSError:
        return None
    return order_of(body)


def is_taken(directory: Path, order: AuditOrder) -> bool:
    """Whether the collector has taken the request, or somebody else has removed it."""
    return not _place(directory, REQUESTS, order.number).exists()


def withdraw_request(directory: Path, order: AuditOrder) -> bool:
    """Whether the request was still there; it is no longer."""
    try:
        _place(directory, REQUESTS, order.number).unlink()
    except OSError:
        return False
    return True


def leave_answer(directory: Path, order: AuditOrder, audits: Sequence[FeedAudit]) -> None:
    """Put the audits of `order` where who asked finds them; old ones that nobody took are removed.

    Raises: OSError.
    """
    path = _place(directory, ANSWERS, order.number)
    rows = [[one.feed.tenant_id, one.feed.content_type, body_of(one)] for one in audits]
    _put(path, json.dumps(rows))
    kept_since_s = path.stat().st_mtime - ANSWER_KEPT_S
    for other in directory.glob(ANSWERS):
        with suppress(OSError):
            if other.stat().st_mtime < kept_since_s:
                other.unlink()


def take_answer(directory: Path, order: AuditOrder) -> list[FeedAudit] | None:
    """The audits that answer `order`, whose file is then no longer there; None if there is no answer yet."""
    path = _place(directory, ANSWERS, order.number)
    try:
        text = path.read_bytes()
    except OSError:
        return None
    with suppress(OSError):
        path.unlink()
    try:
        rows = json.loads(text)
        return [audit_of(Feed(TenantId(tenant), content_named(kind)), body) for tenant, kind, body in rows]
    except GARBLED:
        return None


def _place(directory: Path, files: str, number: str | None) -> Path:
    return directory / files.replace("*", number or "")


def _put(path: Path, body: str) -> None:
    """Write the file whole or not at all."""
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(body, encoding="utf-8")
    draft.replace(path)


def order_of(body: bytes) -> AuditOrder | None:
    """The order in a request's text; None where it makes no sense, as anything may stand there."""
    try:
        fields: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    number, days, repair = fields.get("number"), fields.get("days"), fields.get("repair")
    if not isinstance(number, str) or not number.isalnum() or len(number) > 64:
        return None
    if type(days) is not int or days not in _DAYS or type(repair) is not bool:
        return None
    return AuditOrder(days, repair, number)
