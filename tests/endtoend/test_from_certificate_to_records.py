"""From nothing to records with a certificate: what `certificate create` tells is what a run needs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from commands import Scene, command
from m365watch.common.clock import SystemClock
from m365watch_simulator.service.identities import derive_identities
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from place import Place


def read(path: str) -> bytes:
    return Path(path).read_bytes()


@pytest.mark.slow
def test_a_created_certificate_collects_as_it_is_configured(tmp_path: Path) -> None:
    """The keys that the command tells go into the configuration, and `show` finds the certificate there."""
    password = tmp_path / "pw"
    password.write_text("a pass")
    password.chmod(0o600)

    async def main() -> None:
        made = await command(
            *("certificate", "create", "--out", f"{tmp_path}/certs/", "--bits", "2048", "--json"),
            *("--password-file", str(password)),
        )
        told = json.loads(made.out)
        registered = read(told["files"]["certificate"])
        (identity,) = derive_identities(5)
        settings = SimulationSettings(
            tenants=(replace(identity, certificate=registered),), days=1, records_per_day=50, live=False
        )
        async with simulator_running(settings, clock=SystemClock()) as running:
            scene = Scene(Place(tmp_path), running)
            document = running.configuration(outputs={"files": {"type": "files"}})
            credentials = document["inputs"]["office365"]["credentials"]
            del credentials["client_secret"]
            credentials |= told["configuration"]
            scene.file.write_text(json.dumps(document))
            run = await command("run", "--config", str(scene.file), "--once")
            assert run.exit_code == 0, run.err
            assert running.tenants[0].truth().records()

        shown = await command("certificate", "show", "--config", str(scene.file), "--json")
        (found,) = json.loads(shown.out)["certificates"]
        assert (shown.exit_code, found["use"], found["named_by"]) == (0, "credential", ["input office365"])
        assert found["private_key"]["belongs"] is True
        assert found["certificate"]["thumbprints"] == told["thumbprints"]

    asyncio.run(main())
