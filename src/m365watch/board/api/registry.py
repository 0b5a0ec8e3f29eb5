"""All operations of the API. A new one is a value in a module here, and a line in `operations`."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from m365watch.board.access.scopes import Scope
from m365watch.board.api.alert_operations import alert_operations
from m365watch.board.api.health_operations import standing_operations
from m365watch.board.api.openapi import document_of
from m365watch.board.api.operation import Operation
from m365watch.board.api.panel_operations import panel_operations
from m365watch.board.api.records import RECORDS


@cache
def operations() -> tuple[Operation, ...]:
    """Each of them; a path that is written out stands before one with a name in its place."""
    found = [*standing_operations(api_document), *alert_operations(), RECORDS, *panel_operations()]
    return tuple(sorted(found, key=lambda one: "{" in one.path))


@cache
def _exports() -> re.Pattern[str]:
    paths = (one.path for one in operations() if one.scope in {Scope.EXPORT, Scope.SQL})
    return re.compile("|".join(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(one)) for one in paths))


def takes_along(path: str) -> bool:
    """Whether many records can be taken along at the path: a token needs a scope of its own for it."""
    return _exports().fullmatch(path) is not None


@cache
def api_document() -> dict[str, Any]:
    """The document that describes them."""
    return document_of(operations())
