"""Rows for spreadsheets: as CSV, and without what would be calculated in place of being shown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")
"""Signs with which a formula begins, the wide ones of East Asian keyboards too."""
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def csv_lines(rows: Iterable[Sequence[str]]) -> str:
    """The rows as CSV; a row ends where it does, whatever is in its cells."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    # Some versions of Python quote no bare CR, which readers take for the end of a row.
    quoting = csv.writer(sink, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        (quoting if any("\r" in cell for cell in row) else writer).writerow(row)
    return sink.getvalue()


def without_formula(text: str) -> str:
    """The text, behind an apostrophe where a spreadsheet would take it for a formula; a number is none."""
    if _NUMBER.fullmatch(text):
        return text
    return f"'{text}" if text.startswith(_FORMULA) or _visible(text).startswith(_FORMULA) else text


def _visible(text: str) -> str:
    """The text from its first sign on that is seen: U+FEFF and its kin before a formula do not hide it."""
    return next((text[place:] for place, sign in enumerate(text) if sign.isprintable() and sign != " "), "")
