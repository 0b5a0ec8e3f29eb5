"""A blob's records where they lie in its body: to copy each out of it is a sixth of what splitting costs."""

from __future__ import annotations

from collections.abc import Iterable


class Views(list[bytes]):
    """All records of one blob, each a view (`msgspec.Raw`), and the JSON array that they lie in.

    A view has a length, a buffer and no line break inside, and nothing else of what bytes have.
    """

    __slots__ = ("body",)

    def __init__(self, views: Iterable[bytes], body: bytes) -> None:
        """`body` has the views as its elements, in their order."""
        super().__init__(views)
        self.body = body


def body_of(records: list[bytes]) -> bytes:
    """A JSON array of `records`: the blob's own body, if they are all that it has."""
    return records.body if isinstance(records, Views) else b"[" + b",".join(records) + b"]"
