"""The machine of a customer of Devo's: the old collector's folders, and a Devo that takes records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from m365watch_testing.certificates import Authority
from m365watch_testing.devo_server import DevoServer, server_tls
from tutorial_machine import Machine
from tutorial_pages import Fence

_SECRET = "the value of the secret"
_ELSEWHERE = ("json", "linq")
"""Files of a collector server, and questions that Devo alone answers: `test_coming_from_devo.py` has both."""


class DevoMachine(Machine):
    """A machine with the folder `collector`, as Devo's container has it."""

    devo: DevoServer

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """The folders, without a configuration; while entered, Devo is there."""
        self.files = self.folder / "collector"
        for name in ("config", "certs", "state"):
            (self.files / name).mkdir(parents=True)
        authority = Authority(self.folder.parent)
        client = authority.issue("acme")
        for name, file in (
            ("chain.crt", authority.chain),
            ("acme.crt", client.cert),
            ("acme.key", client.key),
        ):
            (self.files / "certs" / name).write_bytes(file.read_bytes())
            (self.files / "certs" / name).chmod(0o600)
        with DevoServer(server_tls(authority)) as self.devo:
            yield

    async def click(self, act: str) -> None:
        """Devo's answer is what the old collector has sent: all of it."""
        if act != "download devo.csv":
            return await super().click(act)
        records = [json.loads(record) for record in self.running.tenants[0].truth().records()]
        ids = [record["Id"] for record in records if record["Workload"] == "Exchange"]
        assert ids
        (self.files / "devo.csv").write_text("Id,copies\n" + "".join(f'"{one}",1\n' for one in ids))
        return None

    async def try_block(self, block: Fence, before: str | None) -> str | None:
        """What the block prints; what is asked at Devo is looked at elsewhere."""
        if block.kind == "sql":
            code, printed = await self.shell(f'm365watch query --config config/check.yaml "{block.text}"')
            assert code == 0, printed
            return None
        return None if block.kind in _ELSEWHERE else await super().try_block(block, before)

    def localized(self, text: str) -> str:
        """With the secret that the customer has at hand."""
        return super().localized(text).replace(_SECRET, self.identity.client_secret)

    def place_configuration(self, path: Path, document: dict[str, Any]) -> None:
        """Devo is on this machine, and a wire is given up sooner."""
        outputs: Mapping[str, Any] = document["outputs"]
        for section in outputs.values():
            if section["type"] == "devo_platform":
                here = {"address": "localhost", "port": self.devo.port}
                section["config"] |= {**here, "sending_timeout": 1, "retention_secs": 2}
        super().place_configuration(path, document)
