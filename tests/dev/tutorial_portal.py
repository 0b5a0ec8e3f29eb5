"""What somebody clicks in the portal while they follow a tutorial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from m365watch_simulator.service.identities import TenantIdentity
from m365watch_simulator.service.server import RunningSimulator


class Portal:
    """The portal of the simulated tenants, a clipboard, and a folder from which files are uploaded."""

    def __init__(self, folder: Path, running: RunningSimulator) -> None:
        """Nothing is copied yet."""
        self.folder = folder
        self.running = running
        self.clipboard = ""

    @property
    def identity(self) -> TenantIdentity:
        """The first tenant and its application, as they are now."""
        return self.running.tenants[0].identity

    async def click(self, act: str) -> None:
        """Do what is done in the portal."""
        acts: dict[str, Callable[[], None]] = {
            "copy the secret": lambda: self._copy(self.identity.client_secret),
            "make a second secret": self._make_second,
            "delete the first secret": lambda: self._change(client_secret=""),
            "upload m365watch.cer": lambda: self._upload("m365watch.cer"),
            "upload next.cer": lambda: self._upload("next.cer"),
            "the tenth tenant revokes its consent": self.running.tenants[-1].tokens.consent.withdraw,
            "trust the issuer": lambda: None,
            "trust another subject": lambda: self._change(trusted_subject="repo:contoso/watch"),
            "delete m365watch.cer": lambda: self._delete("m365watch.cer"),
        }
        acts[act]()

    def _copy(self, secret: str) -> None:
        assert secret
        self.clipboard = secret

    def _make_second(self) -> None:
        self._change(second_secret="second~secret~of~the~portal")
        self._copy(self.identity.second_secret)

    def _upload(self, name: str) -> None:
        pem = (self.folder / name).read_bytes()
        self._change(certificate=(self.identity.certificate or b"") + pem)

    def _delete(self, name: str) -> None:
        pem = (self.folder / name).read_bytes()
        assert pem in (self.identity.certificate or b"")
        self._change(certificate=(self.identity.certificate or b"").replace(pem, b""))

    def _change(self, **changes: Any) -> None:
        """The application is one, however many tenants know it."""
        for tenant in self.running.tenants:
            tenant.adopt(replace(tenant.identity, **changes))
