"""Recovered pages on disk, from when they are known to the ledger until they are final.

A page that was fetched from Graph is cut by content type, and each part becomes a blob of its feed,
`graph:<query>:<reading>:<page>`. Its body lies here, so that any later run can deliver it, whatever
Graph does with the query meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from m365watch.common.atomic_files import put_file
from m365watch.common.errors import ContentLost, LedgerUnavailable
from m365watch.common.file_access import disk_fix
from m365watch.common.model import BlobRef, ContentType, Feed, Window
from m365watch.registry.ports import Api
from m365watch.sources.management_api.responses import EXPIRED

PREFIX = "graph:"
"""How the content id of a recovered blob begins."""
FOLDER = "recovered"
"""The folder of the pages, in the state directory."""
KEPT_LIFE = timedelta(days=30)
"""How long a page that ended in quarantine can be put back; one that waits is kept until it is final."""
_SUFFIX = ".json"


def is_recovered(content_id: str) -> bool:
    """Whether the blob came from Graph and lies on disk."""
    return content_id.startswith(PREFIX)


class KeptPages:
    """The bodies of blobs that the service does not keep, below one folder."""

    def __init__(self, folder: Path, *, cure: str = "`m365watch recover` fetches it again") -> None:
        """`folder` need not be there yet; `cure` says what brings back a body that is gone."""
        self._folder = folder
        self._cure = cure

    def count(self, ref: BlobRef) -> int | None:
        """How many records the body of `ref` has; None where there is no such body."""
        try:
            return len(msgspec.json.decode(self._path(ref).read_bytes(), type=list[msgspec.Raw]))
        except FileNotFoundError:
            return None

    def put(self, ref: BlobRef, records: Sequence[bytes]) -> None:
        """The body of `ref` is durable on disk.

        Raises: LedgerUnavailable: the disk refuses it.
        """
        path = self._path(ref)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            put_file(path, (b"[", b",".join(records), b"]"))
        except OSError as error:
            what = f"a recovered page cannot be kept ({error.strerror})"
            fix = disk_fix(error.errno, path.parent)
            raise LedgerUnavailable(what, where=str(path.parent), fix=fix) from error

    def body(self, ref: BlobRef) -> bytes:
        """The body of `ref`.

        Raises: ContentLost: it is not there any more; LedgerUnavailable: the disk refuses it.
        """
        try:
            return self._path(ref).read_bytes()
        except FileNotFoundError:
            what = f"{EXPIRED}: its page is no longer kept; {self._cure}"
            raise ContentLost(what, where=f"{ref.feed} blob {ref.content_id}") from None
        except OSError as error:
            what = f"a recovered page cannot be read ({error.strerror})"
            raise LedgerUnavailable(what, where=str(self._folder)) from error

    def sweep(self, tenant_id: str, *, wanted: Collection[tuple[str, str]]) -> None:
        """Remove every body of the tenant but those of the blobs (content type, content id) in `wanted`."""
        folder = self._folder / tenant_id
        names = {_name(content_type, content_id) for content_type, content_id in wanted}
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _path(self, ref: BlobRef) -> Path:
        return self._folder / ref.feed.tenant_id / _name(ref.feed.content_type, ref.content_id)


def _name(content_type: str, content_id: str) -> str:
    """The file's name: a content id of ours has letters, digits, colons and minus signs only."""
    return f"{content_type}.{content_id.removeprefix(PREFIX).replace(':', '.')}{_SUFFIX}"


class KeptPagesApi:
    """An `Api` that answers for recovered blobs itself, and leaves everything else to the real one."""

    def __init__(self, api: Api, pages: KeptPages) -> None:
        """`pages` are those of the run's state directory."""
        self._api = api
        self._pages = pages
        self.tenant_id = api.tenant_id

    async def enabled_subscriptions(self) -> frozenset[ContentType]:
        """Those of the real API."""
        return await self._api.enabled_subscriptions()

    async def start_subscription(self, content_type: ContentType) -> None:
        """That of the real API."""
        await self._api.start_subscription(content_type)

    def list_content(self, content_type: ContentType, window: Window) -> AsyncIterator[list[BlobRef]]:
        """The listing of the real API."""
        return self._api.list_content(content_type, window)

    async def fetch_blob(self, blob: BlobRef) -> bytes:
        """The body from disk where it was recovered, else from the service."""
        if is_recovered(blob.content_id):
            return await asyncio.to_thread(self._pages.body, blob)
        return await self._api.fetch_blob(blob)


def recovered_ref(feed: Feed, *, query: str, place: str, created_at: datetime) -> BlobRef:
    """The blob of one part of one page; `created_at` is the start of its recovery."""
    return BlobRef(feed, f"{PREFIX}{query}:{place}", created_at, created_at + KEPT_LIFE)
