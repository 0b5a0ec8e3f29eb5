"""What a record of SharePoint says of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View


def file_extension(view: View) -> tuple[Value, ...]:
    """The extension that the file has now: the new one where it was renamed; in lower case."""
    for name in ("DestinationFileExtension", "SourceFileExtension"):
        found = view.first(name).strip().lower()
        if found:
            return (found,)
    return ()


def changeable_file(view: View) -> tuple[Value, ...]:
    """The file that a link for anyone lets change, by its name; empty for a link that only opens it.

    Source: published records: `<Type>Edit</Type>`, `SharingLinks.<id>.AnonymousEdit.<id>`.
    """
    marks = f"{view.first('EventData')} {view.first('TargetUserOrGroupName')}".lower()
    if "<type>edit</type>" not in marks and ".anonymousedit" not in marks:
        return ()
    return (view.first("SourceFileName") or view.first("ObjectId"),)
