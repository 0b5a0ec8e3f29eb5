"""What `drift` shows a person, at 80 columns."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from rich.console import Console

from m365watch.cli.feeds.drift_view import drift_page
from m365watch.common.model import BlobRef, ContentType, Feed, Header, TenantId
from m365watch.pipeline.schema_drift import Vocabulary

FEED = Feed(TenantId("22222222-2222-2222-2222-222222222222"), ContentType.SHAREPOINT)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CONTENT_ID = (
    "20261124052925570567716$20261124052925570567716$audit_sharepoint$Audit_SharePoint$emea8861"  # 90 wide
)


def test_names_that_are_new_fit_on_a_terminal() -> None:
    """Each name has a line of its own; the blob that brought it is longer than that, and only in JSON."""
    words = Vocabulary(FEED.tenant_id)
    header = Header(Id="1", RecordType=14, Operation="NovelSharing")
    words.note(BlobRef(FEED, CONTENT_ID, NOW, NOW), [header], [b'{"Id": "1"}'], NOW)
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False)

    console.print(drift_page([words], [(words, one) for one in words]), crop=False)

    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("NovelSharing" in line for line in lines)
