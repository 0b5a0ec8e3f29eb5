"""What narrows a view, and its values, as people read them."""

from __future__ import annotations

from m365watch.board.query.dimension_filters import NUMBERS, plain_name
from m365watch.board.widgets.labels import (
    application_words,
    record_type_words,
    user_type_words,
    workload_words,
)

DIMENSION_WORDS = {
    "tenant": "Tenant",
    "workload": "Workload",
    "type": "Record type",
    "operation": "Operation",
    "user": "User",
    "usertype": "User type",
    "result": "Result",
    "ip": "Address",
    "app": "Application",
}


def dimension_words(name: str) -> str:
    """What narrows a view, as people read it: User, or User is not."""
    plain = plain_name(name)
    return DIMENSION_WORDS[plain] + ("" if name == plain else " is not")


def value_words(name: str, value: str) -> str:
    """A value that narrows a view, as people read it."""
    name = plain_name(name)
    if name == "workload":
        return workload_words(value)
    if name == "app":
        return application_words(value)
    if name in NUMBERS:
        return (record_type_words if name == "type" else user_type_words)(int(value))
    return value
