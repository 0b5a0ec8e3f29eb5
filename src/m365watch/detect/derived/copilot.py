"""Which documents Copilot found instructions in that were meant for it and not for people.

Source: the API's schema of CopilotInteraction, AccessedResource.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from m365watch.detect.fields import Value, View


def injected_files(view: View) -> tuple[Value, ...]:
    """The address of each, or its name where no address of its own is known."""
    told = view.record.get("CopilotEventData")
    resources = told.get("AccessedResources") if isinstance(told, Mapping) else None
    every = resources if isinstance(resources, list) else []
    named = (_named(one) for one in every if isinstance(one, Mapping) and _is_marked(one))
    return tuple(dict.fromkeys(one for one in named if one))


def _is_marked(resource: Mapping[str, Any]) -> bool:
    return str(resource.get("XPIADetected")).lower() == "true"


def _named(resource: Mapping[str, Any]) -> str:
    """`SiteUrl` is the document's address, or only that of the site where it lies."""
    name, url = _text(resource.get("Name")), _text(resource.get("SiteUrl"))
    last = url.rpartition("/")[2]
    return url if last and name in ("", last, unquote(last)) else name


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
