"""What the API can do, as values: routes, the checks before them and the document are made of these."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.responses import Response

from m365watch.board.access.roles import Access, Role, Scope
from m365watch.board.api.parameters import Parameter, Values, time_pairs
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.query_context import View, read_view

BASE = "/api/v1"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, once it is known who asks, and that all of it can be meant."""

    access: Access | None
    """None: somebody who may be anybody, which only what is open to all sees."""
    sources: Sources
    now: datetime
    values: Values = field(default_factory=dict)
    body: Any = None
    tell: Callable[[str], None] = lambda _: None
    """Says on the trail what was done, beside the address."""

    @property
    def who(self) -> Access:
        """Who asks, of what is not open to all."""
        assert self.access is not None  # noqa: S101 - it was checked
        return self.access

    @property
    def view(self) -> View:
        """The view that the values mean. Raises: Refused."""
        pairs = [(name, one) for name, values in self.values.items() for one in values]
        others = [(name, one) for name, one in pairs if name not in {"range", "from", "to"}]
        query = QueryParams([*time_pairs(self.values, self.now), *others])
        return read_view(query, self.who, now=self.now)

    def one(self, name: str, otherwise: str = "") -> str:
        """The value of a parameter that has one at most."""
        return next(iter(self.values.get(name, ())), otherwise)


Answering = Callable[[Call], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked for or done."""

    name: str
    """Its name for programs, unlike any other's."""
    method: str
    path: str
    title: str
    answer: Answering
    gives: Mapping[str, Any]
    """JSON Schema of what it answers."""
    says: str = ""
    tag: str = ""
    media_type: str = "application/json"
    scope: Scope | None = Scope.READ
    """None: any token will do."""
    role: Role = Role.VIEWER
    shows_contents: bool = False
    """Whether it is nothing for whoever does not see the contents of records."""
    is_open: bool = False
    """Whether anybody may ask, without a token and without having signed in."""
    parameters: Sequence[Parameter] = ()
    body: type[msgspec.Struct] | None = None
    asks_by_body: bool = False
    """Whether the fields of its body are options of the view, which no URL may have."""
    may_answer: tuple[int, ...] = ()
    """Statuses of problems that are its own, beside those that any operation has."""

    @property
    def needs(self) -> frozenset[str]:
        """What must be in its path."""
        return frozenset(one.name for one in self.parameters if one.in_path)


def schema_named(name: str) -> dict[str, Any]:
    """The schema of that name in the document."""
    return {"$ref": f"#/components/schemas/{name}"}
