"""How a command asks the collector that holds the ledger for an audit: one small file beside the ledger."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from m365watch.completeness.auditor import AuditOrder
from m365watch.errors import LedgerUnusable

REQUEST_FILE = "audit.request"
TAKEN_WITHIN_S = 60.0
"""A collector that runs takes a request within this time."""
LOOK_EVERY_S = 5.0
"""How often it looks."""
PROGRESS_NAME = "audit progress"
"""The name in the ledger's memory under which it says how far it is."""
_BYTES_MAX = 1_000
_DAYS = range(1, 8)


def leave_request(directory: Path, order: AuditOrder) -> None:
    """Put `order` where the collector of the state directory finds it, in place of an earlier one.

    Raises: LedgerUnusable: the file cannot be written.
    """
    path = directory / REQUEST_FILE
    draft = path.with_suffix(f".{os.getpid()}")
    body = json.dumps({"number": order.number, "days": order.days, "repair": order.repair})
    try:
        draft.write_text(body, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise LedgerUnusable(
            f"the running collector cannot be asked ({error.strerror or error})",
            where=str(path),
            fix="call it as the user that the collector runs as",
        ) from error


def take_request(directory: Path) -> AuditOrder | None:
    """The order that somebody has left, which is then no longer there; None if there is none, or no sense."""
    path = directory / REQUEST_FILE
    try:
        with path.open("rb") as file:
            body = file.read(_BYTES_MAX)
        path.unlink()
    except OSError:
        return None
    return order_of(body)


def withdraw_request(directory: Path) -> bool:
    """Whether the request was still there; it is no longer."""
    try:
        (directory / REQUEST_FILE).unlink()
    except OSError:
        return False
    return True


def order_of(body: bytes) -> AuditOrder | None:
    """The order in a request's text; None where it makes no sense, as anything may stand there."""
    try:
        fields: Any = json.loads(body)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    number, days, repair = fields.get("number"), fields.get("days"), fields.get("repair")
    if not isinstance(number, str) or not number.isalnum() or len(number) > 64:
        return None
    if type(days) is not int or days not in _DAYS or type(repair) is not bool:
        return None
    return AuditOrder(days, repair, number)
