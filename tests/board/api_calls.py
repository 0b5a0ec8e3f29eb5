"""Requests to the API as programs make them: with a token, behind a gate that lets nobody else in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

from asking import Answer, ask, board_of
from m365watch.board.access.api_tokens import ApiTokens, TokenGate, TokenWanted
from m365watch.board.access.roles import Access, Scope
from m365watch.board.api.api_routes import api_document
from m365watch.board.app.application import Board
from m365watch.board.query.data_sources import Sources
from m365watch.common.clock import SystemClock

NOBODYS_TENANT = "00000000-0000-4000-8000-000000000000"


class ClosedGate:
    """Whoever has no token has to sign in."""

    def access_of(self, connection: object) -> Access | None:
        return None


class SameGate:
    """Everybody is the same person."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def access_of(self, connection: object) -> Access:
        return self._access


class Door:
    """A board behind tokens, which are kept in a folder of their own."""

    def __init__(self, sources: Sources, folder: Path) -> None:
        self.file = ApiTokens(folder)
        gate = TokenGate(self.file, clock=SystemClock(), otherwise=ClosedGate())
        self.board: Board = board_of(sources, gate=gate)
        self._sources = sources
        self._made = 0
        self._of_people: dict[Access, Board] = {}

    def ask_as(self, access: Access, url: str) -> Answer:
        """What the API answers to somebody who has signed in."""
        if access not in self._of_people:
            self._of_people[access] = board_of(self._sources, gate=SameGate(access))
        return asyncio.run(ask(self._of_people[access], url))

    def token(
        self,
        *scopes: Scope,
        tenants: tuple[str, ...] | None = None,
        name: str = "",
        contents: bool = True,
    ) -> str:
        """A new token."""
        self._made += 1
        now = SystemClock().now()
        wanted = TokenWanted(
            name or f"t{self._made}", scopes, tenants, "tester", now + timedelta(days=1), contents
        )
        return self.file.create(wanted, now)[0]

    def call(self, url: str, token: str = "", *, method: str = "GET", body: object = None) -> Answer:
        """What the API answers."""
        headers: Mapping[str, str] = {"authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers = {**headers, "content-type": "application/json"}
        content = b"" if body is None else msgspec.json.encode(body)
        return asyncio.run(ask(self.board, url, method=method, headers=headers, body=content))


@cache
def validator_of(pointer: str) -> Any:
    """What judges a document by a schema of the API's own document."""
    components = api_document()["components"]
    return jsonschema_rs.Draft202012Validator({"$ref": pointer, "components": components})


def mistakes_of(document: object, pointer: str) -> list[str]:
    """What of the document is not as the schema has it."""
    return [
        f"{error.instance_path}: {error.message[:200]}"
        for error in validator_of(pointer).iter_errors(document)
    ]
