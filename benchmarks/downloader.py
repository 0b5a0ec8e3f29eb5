"""A plain downloader: list, fetch, split, write, and no state.

What it costs is what fetching itself costs; the collector is measured by what it adds.
With `--tuned` it has the collector's HTTP stack (isal, uvloop); without, aiohttp as it comes.
It takes a collector's input (JSON) on its standard input and a directory as its argument.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

import aiohttp
import msgspec
import uvloop
from isal import isal_zlib

from m365watch.common.clock import SystemClock
from m365watch.common.model import ContentType

FETCHES = 24
_LISTED = timedelta(days=6, hours=23)
_RAW_RECORDS = msgspec.json.Decoder(list[msgspec.Raw])


async def download(source: dict[str, Any], directory: Path, *, tuned: bool) -> None:
    """Every record that the tenant's service lists, into one file for each content type."""
    if tuned:
        aiohttp.set_zlib_backend(isal_zlib)
    credentials, host = source["credentials"], source["cloud"]["management_url"]
    feed = f"{host}/api/v1.0/{credentials['tenant_id']}/activity/feed"
    connector = aiohttp.TCPConnector(limit=FETCHES)
    async with aiohttp.ClientSession(connector=connector) as session:
        token = await _fetch_token(session, source)
        session.headers.update(Authorization=f"Bearer {token}")
        work: asyncio.Queue[tuple[str, IO[bytes]]] = asyncio.Queue(4 * FETCHES)
        async with asyncio.TaskGroup() as fetching:
            workers = [fetching.create_task(_fetch(session, work)) for _ in range(FETCHES)]
            with contextlib.ExitStack() as files:
                for content_type in ContentType:
                    file = files.enter_context((directory / f"{content_type}.ndjson").open("wb"))
                    async for url in _list(session, feed, content_type):
                        await work.put((url, file))
                await work.join()
            for worker in workers:
                worker.cancel()


async def _fetch_token(session: aiohttp.ClientSession, source: dict[str, Any]) -> str:
    """A token for the source's own host."""
    credentials, cloud = source["credentials"], source["cloud"]
    form = {
        "grant_type": "client_credentials",
        "client_id": credentials["client_id"],
        "client_secret": credentials["client_secret"],
        "resource": cloud["management_url"],
    }
    url = f"{cloud['login_url']}/{credentials['tenant_id']}/oauth2/token"
    async with session.post(url, data=form, raise_for_status=True) as answer:
        return str((await answer.json())["access_token"])


async def _list(session: aiohttp.ClientSession, feed: str, content_type: ContentType) -> AsyncIterator[str]:
    for start, end in list_days(SystemClock().now()):
        url = f"{feed}/subscriptions/content"
        params = {"contentType": content_type, "startTime": f"{start:%FT%T}", "endTime": f"{end:%FT%T}"}
        while url:
            async with session.get(url, params=params, raise_for_status=True) as answer:
                for listed in await answer.json():
                    yield listed["contentUri"]
                url, params = answer.headers.get("NextPageUri", ""), {}


def list_days(now: datetime) -> list[tuple[datetime, datetime]]:
    """The windows of a day or less that list everything, oldest first."""
    start = now - _LISTED
    return [(start + timedelta(days=day), min(start + timedelta(days=day + 1), now)) for day in range(7)]


async def _fetch(session: aiohttp.ClientSession, work: asyncio.Queue[tuple[str, IO[bytes]]]) -> None:
    while True:
        url, file = await work.get()
        async with session.get(url, raise_for_status=True) as answer:
            body = await answer.read()
        records = _RAW_RECORDS.decode(body)
        file.write(b"\n".join(map(bytes, records)) + b"\n")
        work.task_done()


if __name__ == "__main__":
    main = download(json.load(sys.stdin), Path(sys.argv[1]), tuned="--tuned" in sys.argv)
    (uvloop.run if "--tuned" in sys.argv else asyncio.run)(main)
