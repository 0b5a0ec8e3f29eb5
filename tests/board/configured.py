"""A configuration that pages change: its board, its file, and requests as a page sends them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from starlette.requests import HTTPConnection

from asking import Answer, ask, board_of, sources_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.application import Board
from m365watch.board.app.security_middleware import TOKEN_HEADER

SECRET = "Tr0ub4dor&3-not-for-browsers"
TENANT = "5df5e41b-0640-4fdb-bf01-49691be8e735"
OTHER = "7d85e4a2-b098-4979-b681-59f90d4fa3bd"
YAML = f"""\
# ours
inputs:
  office365:            # the first
    type: office365
    credentials:
      tenant_id: "{TENANT}"
      client_id: "cde3d36d-c36a-4df6-abb3-607d29e179a4"
      client_secret: "{SECRET}"   # its own
    cloud: worldwide
outputs:
  lake: {{type: lake}}    # here
  devo:
    type: devo_http
    config: {{endpoint: "https://http-eu.example", domain: ours, token: "{SECRET}2"}}
"""
MARK = "<kept secret>"
INPUT = """\
type: office365
credentials:
  tenant_id: "{tenant}"
  client_id: "0a784112-2a8a-4765-b6c2-ca833e319503"
  client_secret: "typed-by-hand"
"""


class OneGate:
    """Lets everybody in as the same person."""

    def __init__(self, access: Access) -> None:
        self.access = access

    def access_of(self, connection: HTTPConnection) -> Access | None:
        return self.access


class Configured:
    """The board of a configuration in a folder of its own."""

    def __init__(self, folder: Path, text: str = YAML, *, access: Access | None = None) -> None:
        self.file = folder / "m365watch.yaml"
        self.file.write_text(text)
        self.file.chmod(0o600)
        self.sources = sources_of(self.file)
        self.sources.desk.environment = {"M365_TOKEN": "x", "PATH": "/bin"}
        admin = Access("ann", Role.ADMIN, tenants=None)
        self.gate = OneGate(access or admin)
        self.board: Board = board_of(self.sources, gate=self.gate)

    def get(self, url: str) -> Answer:
        return asyncio.run(ask(self.board, url))

    @property
    def base(self) -> str:
        """What the page says of the text that it shows."""
        found = re.search(r'data-base="([0-9a-f]{32})"', self.get("/panel/collectors/inputs").text)
        assert found
        return found[1]

    def post(self, path: str, change: dict[str, Any] | None, base: str | None = None) -> Answer:
        """A change as a page sends it."""
        body = json.dumps({"change": change, "base": self.base if base is None else base})
        return self.send(path, body.encode())

    def send(self, path: str, body: bytes) -> Answer:
        page = self.get("/overview").text
        token = re.search(r'name="csrf-token" content="([0-9a-f]{64})"', page)
        assert token
        headers = {TOKEN_HEADER: token[1], "content-type": "application/json"}
        return asyncio.run(ask(self.board, path, method="POST", headers=headers, body=body))

    def review(self, change: dict[str, Any]) -> dict[str, Any]:
        answer = self.post("/collectors/review", change)
        assert answer.status == 200, answer.text
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def apply(self, change: dict[str, Any]) -> dict[str, Any]:
        answer = self.post("/collectors/apply", change)
        assert answer.status == 200, answer.text
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def text(self) -> str:
        return self.file.read_text()


def write(kind: str, name: str, text: str, *, is_new: bool = False) -> dict[str, Any]:
    return {"act": "write", "kind": kind, "name": name, "text": text, "is_new": is_new}


def switch(kind: str, name: str, *, on: bool, service: str = "") -> dict[str, Any]:
    return {"act": "switch", "kind": kind, "name": name, "on": on, "service": service}


def remove(kind: str, name: str) -> dict[str, Any]:
    return {"act": "remove", "kind": kind, "name": name}


def undo(number: int) -> dict[str, Any]:
    return {"act": "undo", "number": number}


def editable(it: Configured, instance: str) -> str:
    """The text that the editor of an instance begins with."""
    found: str = json.loads(it.get(f"/api/v1/instance/editor?instance={instance}").body)["panel"]["text"]
    return found
