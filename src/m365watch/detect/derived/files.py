"""What a record of SharePoint says of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m365watch.detect.fields import Value, View


def file_extension(view: View) -> tuple[Value, ...]:
    """The extension that the file has now: the new one where it was renamed; in lower case."""
    for name in ("DestinationFileExtension", "SourceFileExtension"):
        found = view.first(name).strip().lower()
        if found:
            return (found,)
    return ()
