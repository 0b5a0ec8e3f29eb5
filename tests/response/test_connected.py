"""PnP PowerShell acts on the site to which it is connected, by an application of the house's own."""

from __future__ import annotations

import pytest

from m365watch.response.steps.step import Step
from plan_scene import one_record

SITE = "https://contoso.sharepoint.example/sites/a"
FILE = f"{SITE}/Shared Documents/b.docx"
CONNECTED = f"Connect-PnPOnline -Url '{SITE}' -Interactive -ClientId CLIENT"
CUT = f"{SITE}/Shared Documents/{'x' * 400}"


def step_of(word: str, fields: dict[str, str], **entities: str) -> Step:
    """The only step for a record with these fields."""
    [step] = one_record(word, fields, **entities)
    return step


@pytest.mark.parametrize("address", [FILE, CUT], ids=["named", "cut"])
@pytest.mark.parametrize("word", ["disable_anonymous_link", "remove_sharing"])
def test_links_are_listed_where_they_are(word: str, address: str) -> None:
    """In whichever site somebody was connected to last, another file may be called so."""
    step = step_of(word, {"ObjectId": address}, recipient="mallory@fabrikam.example")

    assert step.powershell[0] == CONNECTED


@pytest.mark.parametrize(
    ("word", "fields", "entities"),
    [
        ("remove_file", {"Operation": "FileMalwareDetected", "ObjectId": FILE}, {}),
        ("restore_files", {}, {"site": SITE}),
        ("remove_sharing", {"ItemType": "Web", "SiteUrl": SITE}, {"recipient": "mallory@fabrikam.example"}),
    ],
)
def test_a_step_of_a_site_begins_with_the_way_to_it(
    word: str, fields: dict[str, str], entities: dict[str, str]
) -> None:
    """The application that PnP PowerShell had for everybody is gone since September 2024."""
    step = step_of(word, fields, **entities)

    assert step.powershell[0] == CONNECTED
    assert any(note.startswith("CLIENT is the id of") for note in step.notes)
