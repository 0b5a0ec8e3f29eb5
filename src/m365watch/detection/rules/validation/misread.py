"""What a rule of other hands can raise while it is read, and how that is told in one line.

pySigma checks the kinds of few values: a number where a text is meant fails wherever it is first used.
"""

from __future__ import annotations

MISREAD = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError)
"""All that says that a rule cannot be understood; SigmaError and our own reasons are ValueErrors."""
_OF_ANOTHER_KIND = (TypeError, AttributeError, LookupError, ArithmeticError)


def reason_of(error: Exception) -> str:
    """Why a rule, or its file, cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    said = str(error.args[0]) if error.args else type(error).__name__
    if isinstance(error, _OF_ANOTHER_KIND):
        return f"has a value of a kind that is not known at its place, such as a number for a text ({said})"
    return said
