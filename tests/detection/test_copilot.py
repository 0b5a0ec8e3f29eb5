"""Who abused Copilot, the person or a document, is told alike in whatever shape the record has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from m365watch.detection.fields.record_view import View

_INJECTED = {"AccessedResources": [{"Name": "offer.docx", "XPIADetected": True}], "Messages": [{"Id": "1"}]}
_TALKED_OUT = {"Messages": [{"Id": "1", "JailbreakDetected": "true"}]}


def _shapes(found: dict[str, Any]) -> list[Any]:
    """As it is; as JSON in a string; with its lists so; without a list; in one more; each of a list so."""
    return [
        found,
        json.dumps(found),
        {name: json.dumps(value) for name, value in found.items()},
        {name: value[0] for name, value in found.items()},
        {name: [json.dumps(one) for one in value] for name, value in found.items()},
        [found],
        json.dumps([found]),
    ]


@pytest.mark.parametrize("told", _shapes(_INJECTED))
def test_a_document_with_instructions_is_at_fault_and_not_the_person(told: Any) -> None:
    view = View({"Operation": "CopilotInteraction", "CopilotEventData": told})

    assert view.values("m365.injected_files") == ("offer.docx",)
    assert "offer.docx" in view.shown("m365.copilot_abuse")


@pytest.mark.parametrize("told", _shapes(_TALKED_OUT))
def test_a_person_who_talks_copilot_out_of_its_rules_is_told(told: Any) -> None:
    view = View({"Operation": "CopilotInteraction", "CopilotEventData": told})

    assert view.values("m365.injected_files") == ()
    assert view.shown("m365.copilot_abuse") not in ("", "(unknown)")
