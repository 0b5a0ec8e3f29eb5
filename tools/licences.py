"""The licence of an installed package, as SPDX writes it, whatever its metadata call it."""

from __future__ import annotations

import re
from email.message import Message

ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSD",
        "CNRI-Python",
        "ISC",
        "LGPL-2.1-only",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "PSF-2.0",
        "Unlicense",
        "Zlib",
    }
)
"""Licences under which a package may be used beside Apache-2.0 without a duty for whoever runs the
collector. The two weak copyleft ones bind only who changes the package itself, which nobody does here."""

_NAMES = {
    "apache 2.0": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD",
    "gnu lesser general public license v2 (lgplv2)": "LGPL-2.1-only",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
_OPERATORS = re.compile(r"\s+(AND|OR)\s+|[()]")


def licence_of(metadata: Message) -> str:
    """The SPDX expression of a package's metadata; `unknown` where they name none.

    Its own expression comes first, then a short `License`, then the classifiers.
    """
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    short = str(metadata.get("License") or "").strip()
    if short and "\n" not in short and (found := _named(short)):
        return found
    words = [str(one).rpartition(" :: ")[2] for one in metadata.get_all("Classifier", [])]
    named = [found for word in words if (found := _named(word))]
    return " OR ".join(dict.fromkeys(named)) or "unknown"


def is_allowed(expression: str) -> bool:
    """Whether one may use a package under it: of an OR one part is enough, of an AND all are needed."""
    if "(" in expression:
        return all(
            part in ALLOWED for part in _OPERATORS.split(expression) if part and part not in {"AND", "OR"}
        )
    choices = [[part.strip() for part in choice.split(" AND ")] for choice in expression.split(" OR ")]
    return any(all(part in ALLOWED for part in choice) for choice in choices)


def _named(word: str) -> str | None:
    known = _NAMES.get(word.lower())
    return known or (word if word in ALLOWED else None)
