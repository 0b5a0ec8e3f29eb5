"""How Copilot was abused: talked out of its rules, or by instructions in documents that were meant for it.

Source: the API's schema of CopilotInteraction, AccessedResource and Message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from m365watch.detection.fields.record_view import elements_of, leaves_of, open_json, text_of

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View


def injected_files(view: View) -> tuple[Value, ...]:
    """The address of each that holds instructions, or its name where no address of its own is known."""
    named = map(_named, _marked(view, "AccessedResources", "XPIADetected"))
    return tuple(dict.fromkeys(one for one in named if one))


def copilot_abuse(view: View) -> tuple[Value, ...]:
    """Words for each way in which it was abused: "instructions for it were hidden in offer.docx"."""
    found: list[str] = []
    if _marked(view, "Messages", "JailbreakDetected"):
        found.append("an attempt to talk it out of its rules")
    files = injected_files(view) or ("a document",)
    if _marked(view, "AccessedResources", "XPIADetected"):
        found += [f"instructions for it were hidden in {one}" for one in files]
    return tuple(found)


def _marked(view: View, field: str, mark: str) -> list[Mapping[str, Any]]:
    # Every shape in which the condition of the rule finds the mark.
    return [
        one
        for told in elements_of(open_json(view.record.get("CopilotEventData")))
        if isinstance(told, Mapping)
        for one in elements_of(open_json(told.get(field)))
        if isinstance(one, Mapping)
        and "true" in (text_of(value).lower() for value in leaves_of(one.get(mark)))
    ]


def _named(resource: Mapping[str, Any]) -> str:
    """`SiteUrl` is the document's address, or only that of the site where it lies."""
    name, url = _text(resource.get("Name")), _text(resource.get("SiteUrl"))
    last = url.rpartition("/")[2]
    return url if last and name in ("", last, unquote(last)) else name


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
