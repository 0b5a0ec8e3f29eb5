"""Signing in as a browser does, without a server."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

from argon2 import PasswordHasher

from asking import Answer, ask
from m365watch.board.access.local_users import User, Users
from m365watch.board.access.login_routes import Entrance
from m365watch.board.access.passwords import Passwords
from m365watch.board.access.sessions import FILE_NAME, Sessions, SessionTimes
from m365watch.board.app.application import Board
from m365watch.board.app.security_middleware import TOKEN_HEADER
from m365watch_testing.clock import FakeClock

PASSWORD = "four plain words here"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
IDLE_S = 3_600.0
LIFE_S = 43_200.0


def user_named(name: str, role: str = "analyst", **more: object) -> User:
    return User(name, role, QUICK.hash(PASSWORD), **more)  # type: ignore[arg-type]


def entrance_in(folder: Path, *users: User, secure: bool = False) -> tuple[Entrance, FakeClock]:
    """The entrance of a state directory with these users, at a time that the test moves."""
    kept = Users(folder)
    for one in users:
        kept.put(one)
    clock = FakeClock(NOW)

    def stamp_of(name: str) -> str | None:
        found = kept.find(name)
        return found.stamp if found else None

    sessions = Sessions(SessionTimes(IDLE_S, LIFE_S), stamp_of=stamp_of, path=folder / FILE_NAME)
    return Entrance(kept, sessions, clock, secure=secure, passwords=Passwords(QUICK)), clock


class Browser:
    """Keeps cookies, and goes where it is sent."""

    def __init__(self, board: Board, *, client: str = "127.0.0.1", host: str = "") -> None:
        self.board = board
        self.client = client
        self.cookies: dict[str, str] = {}
        self.host = {"host": host} if host else {}
        self.set_cookies: list[str] = []

    async def get(self, url: str, **headers: str) -> Answer:
        return await self._ask(url, headers={"accept": "text/html"} | headers)

    async def post(self, url: str, headers: dict[str, str] | None = None, *, body: bytes = b"") -> Answer:
        return await self._ask(url, method="POST", headers=headers or {}, body=body)

    async def sign_in(self, name: str, password: str = PASSWORD, back: str = "/overview") -> Answer:
        """What the form leads to."""
        page = await self.get(f"/sign-in?{urlencode({'next': back})}")
        found = re.search(r'name="token" value="([0-9a-f]+)"', page.text)
        assert found
        fields = {"name": name, "password": password, "next": back, "token": found[1]}
        return await self.post("/sign-in", body=urlencode(fields).encode())

    async def token(self) -> dict[str, str]:
        """The header with which a page of the session proves that it is ours."""
        page = await self.get("/overview")
        found = re.search(r'name="csrf-token" content="([0-9a-f]{64})"', page.text)
        assert found
        return {TOKEN_HEADER: found[1]}

    async def _ask(
        self, url: str, *, headers: dict[str, str], method: str = "GET", body: bytes = b""
    ) -> Answer:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        given = self.host | ({"cookie": cookie} if cookie else {}) | headers
        answer = await ask(self.board, url, method=method, headers=given, body=body, client=self.client)
        self.set_cookies += answer.headers.getlist("set-cookie")
        for line in answer.headers.getlist("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0":
                    del self.cookies[name]
        return answer
