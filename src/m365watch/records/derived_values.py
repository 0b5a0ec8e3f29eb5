"""What a record says that no field of it says by itself: its address, its outcome, whom it is about.

Detection's rules and the lake's columns are made by the same functions. Each gets the record as a function
from the path of a field to its text, empty where there is none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache

Texts = Callable[[str], str]

_NO_ADDRESS = frozenset({"", "<null>"})
_ADDRESSES_MAX = 8_192


@lru_cache(_ADDRESSES_MAX)
def plain_address(sent: str) -> str | None:
    """The address in `sent` without port, brackets and IPv6 mapping; None where it says nothing.

    Source: api-contract 5.9, the forms of ClientIP in published records.
    """
    text = sent.strip()
    if text in _NO_ADDRESS:
        return None
    if text.startswith("["):
        bare = text[1:].partition("]")[0]
    else:
        bare = text.partition(":")[0] if text.count(":") == 1 else text
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return sent
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


class Outcome(StrEnum):
    """What came of an operation."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"
    """The record does not say, though others of its workload do; rules take it for done."""


DONE = frozenset({"true", "success", "succeeded", "partiallysucceeded"})
"""What `ResultStatus` says, in lower case, of what was done."""
WITHOUT_STATUS = frozenset({"sharepoint", "onedrive", "microsoftteams"})
"""Workloads that record only what was done."""
_DONE_BY_WORKLOAD = {
    "exchange": DONE,
    "azureactivedirectory": {"success", "succeeded", "true"},
    # An alert of Defender for Cloud Apps has its own state here; it stands until it is dismissed.
    "mcas": {*DONE, "new", "open", "active"},
}
_NO_ERROR = {"", "0"}


def outcome_of(text: Texts) -> Outcome:
    """What came of the operation, by workload.

    Sign-ins say `Success` where they failed: the operation and the error's number decide there.
    """
    operation = text("Operation").strip().lower()
    if operation == "userloginfailed":
        return Outcome.FAILURE
    if operation == "userloggedin":
        return Outcome.SUCCESS if text("ErrorNumber") in _NO_ERROR else Outcome.FAILURE
    workload = text("Workload").lower()
    if workload in WITHOUT_STATUS:
        return Outcome.SUCCESS
    status = text("ResultStatus").strip().lower()
    if not status:
        return Outcome.UNKNOWN
    return Outcome.SUCCESS if status in _DONE_BY_WORKLOAD.get(workload, DONE) else Outcome.FAILURE


ALERT_RECORD_TYPE = 40
"""Microsoft's own alerts: their `UserId` is the service."""


def alerted_user(text: Texts) -> str:
    """The user that an alert of Microsoft's is about, in its data or as its row's entity; empty for none.

    Source: 258 published records of alerts; of their rows some are about users, by name.
    """
    if found := text("Data.f3u").strip():
        return found
    kind = (text("EntityType") or text("Data.etype")).lower()
    named = (text("AlertEntityId") or text("Data.eid")).strip()
    return named if kind == "user" and "@" in named else ""
