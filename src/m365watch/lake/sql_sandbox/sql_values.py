"""Values that a query answers, as JSON and as text have them."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal

from m365watch.common.timestamps import iso_of

_NUMBERS = ("INT", "DECIMAL", "DOUBLE", "FLOAT")


def is_number(kind: str) -> bool:
    """Whether the type of a column, in DuckDB's words, is one number."""
    outermost = kind.partition("(")[0]
    return outermost != "INTERVAL" and any(word in outermost for word in _NUMBERS) and "[" not in kind


def text_of(value: object) -> str:
    """The value as text: a decimal with all its places, an object or a list as JSON."""
    if isinstance(value, Decimal):
        return str(value)
    plainer = jsonable(value)
    if isinstance(plainer, str):
        return plainer
    return json.dumps(plainer, ensure_ascii=False)


def jsonable(value: object) -> object:
    """`value` in JSON's own types: instants in ISO 8601 with Z, bytes in hexadecimal."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value - value == 0 else str(value)  # JSON has no NaN and no infinity
        case datetime():
            return iso_of(value)
        case Decimal():
            number = float(value)
            return number if Decimal(repr(number)) == value else str(value)  # never another number
        case bytes():
            return value.hex()
        case list() | tuple():
            return [jsonable(one) for one in value]
        case dict():
            return {str(name): jsonable(one) for name, one in value.items()}
        case date():
            return value.isoformat()
        case _:
            return str(value)
