"""Ways into a document whose shape is not known yet: what is not there counts as empty."""

from __future__ import annotations

Document = dict[str, object]

NETWORK_OF_ALL = ("globals", "network")
WEBHOOK = ("globals", "webhook")
BOARD = ("board",)
BOARD_ENTRA = ("board", "entra")


def section_at(document: object, *path: str) -> Document:
    """The object at the path, itself and not a copy; an empty one where there is none."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def networks_in(document: Document) -> list[tuple[str, ...]]:
    """Where the document has, or may have, a section `network`."""
    return [NETWORK_OF_ALL, *(("inputs", name, "network") for name in section_at(document, "inputs"))]


def texts_at(section: Document, key: str) -> list[str]:
    """The texts below a key that takes one text or a list of them."""
    value = section.get(key)
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]
