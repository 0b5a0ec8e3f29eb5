"""Which contents of a feed the ledger knows, whatever their cuts; read beside the ledger's own connection."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from m365watch.common.model import Feed
from m365watch.ledger.queries_reading import ledger_for_reading

_KNOWN = (
    "SELECT content_id FROM blob JOIN feed ON feed.id = blob.feed"
    " WHERE tenant_id = ? AND content_type = ? AND content_id IN (SELECT value FROM json_each(?))"
)


def known_contents(path: Path, feed: Feed, content_ids: Collection[str]) -> set[str]:
    """Those of `content_ids` that the ledger at `path` knows.

    Raises: LedgerUnusable.
    """
    with ledger_for_reading(path) as connection:
        asked = json.dumps(sorted(content_ids))
        rows = connection.execute(_KNOWN, (feed.tenant_id, str(feed.content_type), asked))
        return {str(content_id) for (content_id,) in rows}
