"""What a rule of other hands can raise while it is read, and how that is told in one line.

pySigma checks the kinds of few values: a number where a text is meant fails wherever it is first used.
"""

from __future__ import annotations

from collections.abc import Mapping

MISREAD = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError)
"""All that says that a rule cannot be understood; SigmaError and our own reasons are ValueErrors."""
_OF_ANOTHER_KIND = (TypeError, AttributeError, LookupError, ArithmeticError)


_TO_GIVE = {
    "SigmaLevelError": ("level", "informational, low, medium, high or critical"),
    "SigmaStatusError": ("status", "stable, test, experimental, deprecated or unsupported"),
}
"""The key that pySigma leaves unsaid, and what may stand there, by the name of its error."""


TEXTS = ("title", "id", "name", "status", "level", "description")
"""Keys of a rule that have to be texts; pySigma fails at some of them in words about Python."""


def no_text_in(document: Mapping[str, object]) -> str:
    """The first of these that is something else, in a line; empty where all are."""
    for key in TEXTS:
        if document.get(key) is not None and not isinstance(document[key], str):
            return f"{key}: is no text"
    return ""


def reason_of(error: Exception) -> str:
    """Why a rule, or its file, cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    said = str(error.args[0]) if error.args else type(error).__name__
    if isinstance(error, _OF_ANOTHER_KIND):
        return f"has a value of a kind that is not known at its place, such as a number for a text ({said})"
    if type(error).__name__ in _TO_GIVE:
        key, values = _TO_GIVE[type(error).__name__]
        return f"{key}: {said}; give {values}"
    return said
