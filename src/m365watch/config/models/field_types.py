"""The regular expressions of `obfuscation_data`: checked before they meet a record."""

from __future__ import annotations

PATTERN_CHARACTERS_MAX = 500
"""The longest pattern; what finds a card number or an address has under 100 characters."""


def parse_pattern(text: str) -> str:
    """The pattern unchanged, if it compiles and does not match the empty text.

    Raises:
        ValueError: the end of a sentence that starts with the pattern.
    """
    if len(text) > PATTERN_CHARACTERS_MAX:
        raise ValueError(f"is longer than {PATTERN_CHARACTERS_MAX} characters")
    # Few configurations have patterns, and to load what reads them takes 8 ms of every start.
    import regex

    try:
        pattern = regex.compile(text)
    except (regex.error, OverflowError, RecursionError) as error:
        reason = str(error) if isinstance(error, regex.error) else "it is too complex"
        raise ValueError(f"is not a regular expression ({reason})") from None
    if pattern.search("") is not None:
        raise ValueError("matches the empty text, and so would match everywhere")
    return text
