"""Regular expressions of a document, tried before pySigma sees them: it has RE2 write lines of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from m365watch.detection.rules.condition_compiler import BadPattern, compile_pattern
from m365watch.detection.rules.validation.diagnostics import Fault, Where

DEPTH_MAX = 60
_FLAGS = {"i": "i", "ignorecase": "i", "m": "m", "multiline": "m", "s": "s", "dotall": "s"}


def proofread_patterns(value: object, where: Where = ()) -> Iterator[Fault]:
    """Every regular expression that cannot be used, whatever it stands in."""
    if len(where) > DEPTH_MAX:
        return
    if isinstance(value, Mapping):
        for key, one in value.items():
            modifiers = str(key).split("|")[1:]
            if "re" in modifiers:
                yield from _judge(one, modifiers, (*where, str(key)))
            else:
                yield from proofread_patterns(one, (*where, str(key)))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from proofread_patterns(one, (*where, place))


def _judge(value: object, modifiers: list[str], where: Where) -> Iterator[Fault]:
    if isinstance(value, list):
        for place, one in enumerate(value):
            yield from _judge(one, modifiers, (*where, place))
    elif not isinstance(value, str):
        yield Fault(where, f"{value!r} is no text, and so no regular expression; put it in quotation marks")
    elif "expand" not in modifiers:
        # With a list inside, it is tried once for each of its texts.
        flags = "".join(sorted({_FLAGS[one] for one in modifiers if one in _FLAGS}))
        try:
            compile_pattern(f"(?{flags})" + value if flags else value)
        except BadPattern as error:
            yield Fault(where, str(error))
