"""The document that describes the API, made of the same operations as the routes.

Source: OpenAPI Specification 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from m365watch import __version__
from m365watch.board.access.roles import SAYS
from m365watch.board.api import alert_operations as alerts
from m365watch.board.api import health_operations as standing
from m365watch.board.api import panel_operations as panels
from m365watch.board.api.operation import Operation, schema_named
from m365watch.board.api.parameters import NARROWING, TIME, Parameter
from m365watch.board.api.problem_details import KINDS, MEDIA_TYPE
from m365watch.board.api.schemas import body_schemas, shape_schemas, struct_schemas
from m365watch.board.query.dimension_filters import VALUES_MAX

_SHARED = {one.name: one for one in (*TIME, *NARROWING)}
"""Parameters that many operations have, written down once."""
_ABOUT = (
    "What the pages of the board show, for programs. Every panel is asked for with the names that its page's"
    " URL has. Send a token: `m365watch board token create` makes one. What goes wrong is told as RFC 9457"
    " has it."
)


def document_of(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "m365watch board", "version": __version__, "description": _ABOUT},
        "tags": [{"name": name} for name in dict.fromkeys(one.tag for one in operations)],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Scopes: " + "; ".join(f"`{one}` ({says})" for one, says in SAYS.items()),
                }
            },
            "parameters": {name: _parameter(one) for name, one in _SHARED.items()},
            "responses": {str(status): _problem(status) for status in sorted({one.status for one in KINDS})},
            "schemas": _schemas(),
        },
    }


@cache
def _schemas() -> dict[str, Any]:
    return {
        **struct_schemas(*alerts.DOCUMENTS, *standing.DOCUMENTS),
        **body_schemas(*alerts.BODIES, *panels.BODIES),
        **shape_schemas(),
    }


def _operation(one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": one.name, "summary": one.title, "tags": [one.tag]}
    if one.says:
        found["description"] = one.says
    if not one.is_open:
        found["security"] = [{"token": [str(one.scope)] if one.scope else []}]
    if one.parameters:
        found["parameters"] = [_parameter_or_its_name(each) for each in one.parameters]
    if one.body is not None:
        schema = schema_named(one.body.__name__)
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    found["responses"] = {
        "200": {"description": one.title, "content": {one.media_type: {"schema": one.gives}}},
        **{str(status): {"$ref": f"#/components/responses/{status}"} for status in _statuses(one)},
    }
    if one.name == "ready":
        found["responses"]["503"] = {**found["responses"]["200"], "description": "One of them cannot be read"}
    return found


def _statuses(one: Operation) -> Iterable[int]:
    """The statuses of the problems that it may answer."""
    if one.path in {"/healthz", "/readyz"}:
        return (400,)
    statuses = {400, 429, *one.may_answer}
    if not one.is_open:
        statuses |= {401, 403, 500, 503}
    if one.body is not None:
        statuses |= {415}
    return sorted(statuses)


def _parameter_or_its_name(one: Parameter) -> dict[str, Any]:
    if _SHARED.get(one.name) == one:
        return {"$ref": f"#/components/parameters/{one.name}"}
    return _parameter(one)


def _parameter(one: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = dict(one.schema)
    if one.repeats:
        schema = {
            "type": "array",
            "items": schema,
            "minItems": 1,
            "maxItems": VALUES_MAX,
        }
    return {
        "name": one.name,
        "in": "path" if one.in_path else "query",
        "required": one.in_path,
        "description": one.says,
        "schema": schema,
    }


def _problem(status: int) -> dict[str, Any]:
    kinds = [one for one in KINDS if one.status == status]
    says = "; ".join(f"{one.title} (`{one.code}`)" for one in kinds)
    return {"description": says, "content": {MEDIA_TYPE: {"schema": schema_named("Problem")}}}
