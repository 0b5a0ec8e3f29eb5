"""Who expects that a text is no JSON expects every way in which a decoder says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from promises import guarantee

from sources import list_modules

OF_THE_DECODER = {"DecodeError", "MsgspecError", "ValidationError"}
OF_BYTES = {"UnicodeDecodeError", "UnicodeError", "ValueError"}


@guarantee(26)
def test_whoever_expects_bad_json_expects_nesting_and_bad_bytes() -> None:
    """Msgspec has an error of its own for what is no JSON, and raises Python's over nesting and bad UTF-8."""
    assert [
        f"{module}:{tries.lineno} catches {', '.join(sorted(names))}"
        for module, tree in list_modules().items()
        for tries in ast.walk(tree)
        if isinstance(tries, ast.Try)
        for names in [set(names_caught(tries))]
        if names & {f"msgspec.{name}" for name in OF_THE_DECODER}
        if not ("RecursionError" in names and names & OF_BYTES)
    ] == []


def test_what_is_caught_is_read_from_the_source() -> None:
    """The check above sees a name alone, and each of several."""
    (one,) = ast.parse("try: x\nexcept msgspec.DecodeError: y\nexcept (KeyError, ValueError): z").body

    assert isinstance(one, ast.Try)
    assert list(names_caught(one)) == ["msgspec.DecodeError", "KeyError", "ValueError"]


def names_caught(tries: ast.Try) -> Iterator[str]:
    """The names of the errors that a statement catches, at whatever place of it."""
    for one in tries.handlers:
        if isinstance(one.type, ast.Tuple):
            yield from map(ast.unparse, one.type.elts)
        elif one.type is not None:
            yield ast.unparse(one.type)
