"""Ways to a server, and servers at their end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from yarl import URL

from m365watch.common.errors import CollectorError
from m365watch.http.client import Answer, Session, open_session
from m365watch.http.proxies import proxy_for
from m365watch.http.settings import NetworkSettings
from raw_server import LOOPS, certificate, run

Result = TypeVar("Result")
HOST = "service.example"
BEARER = {"Authorization": "Bearer t0ken"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    proxy_for.cache_clear()
    yield
    proxy_for.cache_clear()


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """The key and the certificate of a server that vouches for itself."""
    return certificate(tmp_path, "localhost", HOST)


async def ask(session: Session, url: str = f"https://{HOST}/x") -> Answer | str:
    """The answer, or what is said of its failure."""
    try:
        return await session.send("GET", URL(url, encoded=True), headers=BEARER, where="here")
    except CollectorError as error:
        return error.what


async def ask_over(network: NetworkSettings, url: str = f"https://{HOST}/x") -> Answer | str:
    async with open_session(network) as session:
        return await ask(session, url)


def ended(answer: Answer | str) -> bytes | str:
    return answer.body if isinstance(answer, Answer) else answer


def within(what: Callable[[], Awaitable[Result]]) -> Result:
    """What it comes to; nothing may hang."""

    async def main() -> Result:
        return await what()

    return run(LOOPS[0], main())
