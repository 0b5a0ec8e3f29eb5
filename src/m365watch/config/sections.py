"""Ways into a document whose shape is not known yet: what is not there counts as empty."""

from __future__ import annotations

Document = dict[str, object]


def section_at(document: object, *path: str) -> Document:
    """The object at the path, itself and not a copy; an empty one where there is none."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def texts_at(section: Document, key: str) -> list[str]:
    """The texts below a key that takes one text or a list of them."""
    value = section.get(key)
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]
