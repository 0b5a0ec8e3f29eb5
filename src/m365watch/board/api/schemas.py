"""JSON Schemas of what the API answers: the shapes of panels and the documents beside them.

Source: JSON Schema 2020-12, as OpenAPI 3.1 has it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

import msgspec

from m365watch.board.api.problem_details import Problem
from m365watch.board.widgets.widget_types import Chart, Empty, Grid, Listing, Ranking, Several, Shape, Tiles

TEMPLATE = "#/components/schemas/{name}"
_PARTS = (Chart, Ranking, Grid, Tiles, Listing)
_SHAPES: tuple[Any, ...] = get_args(Shape)


def panel_document(shape: Shape) -> dict[str, Any]:
    """A panel as JSON has it: every shape in it names its kind."""
    return {"kind": shape.kind, "panel": _with_kind(shape)}


def _with_kind(shape: Shape) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(shape)
    if isinstance(shape, Several):
        plain["parts"] = [_with_kind(one) for one in shape.parts]
    for one in fields(shape):
        if isinstance(inner := getattr(shape, one.name), _SHAPES):
            plain[one.name] = _with_kind(inner)
    return {"kind": shape.kind, **plain}


def shape_schemas() -> dict[str, Any]:
    """The schema of each shape and of what it is made of, and that of a panel's answer."""
    plain = [one for one in _SHAPES if one is not Several]
    _, found = msgspec.json.schema_components([*plain, Empty], ref_template=TEMPLATE)
    schemas = {name: all_there(schema) for name, schema in found.items()}
    for shape in plain:
        schemas[shape.__name__] = _of_kind(shape, schemas[shape.__name__])
    schemas["Several"] = _several()
    schemas["PanelAnswer"] = {
        "title": "PanelAnswer",
        "description": "A panel: what kind of shape it is, and the shape.",
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": [one.kind for one in _SHAPES]},
            "panel": _any_of_kinds(_SHAPES),
        },
        "required": ["kind", "panel"],
    }
    return schemas


def struct_schemas(*types: type[msgspec.Struct]) -> dict[str, Any]:
    """The schemas of documents that are answered, in which every key is always there."""
    _, found = msgspec.json.schema_components([Problem, *types], ref_template=TEMPLATE)
    return {name: all_there(schema) for name, schema in found.items()}


def body_schemas(*types: type[msgspec.Struct]) -> dict[str, Any]:
    """The schemas of bodies that are sent, in which what has a default may be left out."""
    _, found = msgspec.json.schema_components(types, ref_template=TEMPLATE)
    return dict(found)


def all_there(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object that is answered: every key is there, so that none has a default."""
    if schema.get("type") != "object" or "properties" not in schema:
        return schema
    properties = {
        name: {key: value for key, value in one.items() if key != "default"}
        for name, one in schema["properties"].items()
    }
    return {**schema, "properties": properties, "required": list(properties)}


def _of_kind(shape: Any, schema: dict[str, Any]) -> dict[str, Any]:
    properties = {"kind": {"const": shape.kind}, **schema["properties"]}
    return {**schema, "properties": properties, "required": list(properties)}


def _any_of_kinds(shapes: tuple[Any, ...]) -> dict[str, Any]:
    mapping = {one.kind: TEMPLATE.format(name=one.__name__) for one in shapes}
    return {
        "oneOf": [{"$ref": path} for path in mapping.values()],
        "discriminator": {"propertyName": "kind", "mapping": mapping},
    }


def _several() -> dict[str, Any]:
    pair = {"type": "array", "prefixItems": [{"type": "string"}] * 2, "items": False, "minItems": 2}
    properties = {
        "kind": {"const": Several.kind},
        "parts": {"type": "array", "items": _any_of_kinds(_PARTS)},
        "empty": {"anyOf": [{"$ref": TEMPLATE.format(name="Empty")}, {"type": "null"}]},
        "choices": {"type": "array", "items": pair},
        "chosen": {"type": "string"},
        "span": {"type": "array", "items": {"type": "string"}},
    }
    says = (Several.__doc__ or "").strip()
    return {
        "title": "Several",
        "description": says,
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }
