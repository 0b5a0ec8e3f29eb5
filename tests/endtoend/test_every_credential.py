"""Every kind of credential collects a tenant, and none of the secrets in it is to be found anywhere."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from promises import guarantee
from shifted import DAY, python_path

from commands import LIMIT_S, Ended
from m365watch.common.clock import SystemClock
from m365watch_simulator.entra.managed_identity import IDENTITY_HEADER
from m365watch_simulator.service.identities import derive_identities
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_testing.applications import ApplicationCertificate, write_private
from place import BOTH, Place

pytestmark = pytest.mark.slow

PASSWORD = "correct-horse-battery"
TOKEN_STARTS = ("eyJhbGci", "eyJ0eXAi")
"""How every assertion and every token begins: `{"alg"` and `{"typ"` in base64."""

FALLS = "is used in its place"

KEYRING = """
def get_password(service, name):
    return {}[name] if service == "m365watch" else None
"""
"""A package of that name, as far as it is used; the real one needs a desktop."""

KINDS = (
    "managed_identity",
    "secret",
    "secret_file",
    "pem",
    "encrypted_key",
    "key_in_environment",
    "pfx",
    "pfx_v1",
    "federated",
    "identity_that_vouches",
    "second",
    "certificate_then_secret",
    "keyring",
)
"""One tenant for each; the machine lives in the first."""


class Scene:
    """A simulator with a tenant for each kind, and the files that a collector of them needs."""

    def __init__(self, folder: Path, running: RunningSimulator, certificate: ApplicationCertificate) -> None:
        self.folder = folder
        self.running = running
        self.certificate = certificate
        self.federated = running.issuer.token(SystemClock().now())
        (folder / "lib").mkdir()
        held = {str(number): tenant.identity.client_secret for number, tenant in enumerate(running.tenants)}
        write_private(folder / "lib" / "keyring.py", KEYRING.format(held))
        write_private(folder / "cert.pem", certificate.pem)
        write_private(folder / "key.pem", certificate.key_pem())
        write_private(folder / "locked.pem", certificate.key_pem(PASSWORD))
        write_private(folder / "both.pfx", certificate.pfx(PASSWORD))
        write_private(folder / "token", self.federated + "\n")

    def keys_of(self, kind: str, number: int) -> dict[str, Any]:
        """The keys of `credentials` that prove the application of tenant `number`."""
        identity = self.running.tenants[number].identity
        write_private(self.folder / f"secret-{number}", identity.client_secret)
        certificate = {"certificate_file": "cert.pem"}
        pfx = {"certificate_file": "both.pfx", "certificate_password": "${PASSWORD}"}
        kinds: dict[str, dict[str, Any]] = {
            "managed_identity": {"managed_identity": True, "client_id": None},
            "secret": {"client_secret": identity.client_secret},
            "secret_file": {"client_secret_file": f"secret-{number}"},
            "pem": certificate | {"private_key_file": "key.pem"},
            "encrypted_key": certificate
            | {"private_key_file": "locked.pem", "certificate_password": "${PASSWORD}"},
            "key_in_environment": certificate | {"private_key": "${KEY}"},
            "pfx": pfx,
            "pfx_v1": pfx | {"assertion_audience": "https://login.windows.net/{tenant}/oauth2/token"},
            "federated": {"federated_token_file": "token"},
            "identity_that_vouches": {"managed_identity": identity_of(self.running)},
            "second": {
                "client_secret": identity.expired_secret,
                "second": {"client_secret": identity.second_secret},
            },
            "certificate_then_secret": {
                "certificate_file": "gone.pem",
                "private_key_file": "key.pem",
                "client_secret": identity.client_secret,
            },
            "keyring": {"client_secret": f"keyring:m365watch/{number}"},
        }
        return kinds[kind]

    def write(self, kinds: Iterable[str], outputs: Mapping[str, Any] = BOTH) -> Path:
        """A configuration that collects the tenants of `kinds`."""
        document = self.running.configuration(outputs=outputs)
        inputs = dict(zip(KINDS, document["inputs"].values(), strict=True))
        wanted = {}
        for kind in kinds:
            section = inputs[kind]
            del section["credentials"]["client_secret"]
            section["credentials"] |= self.keys_of(kind, KINDS.index(kind))
            if kind == "pfx_v1":
                section["token_endpoint"] = "v1"
            wanted[kind] = section
        document["inputs"] = wanted
        # It stood there when the configuration was loaded.
        write_private(self.folder / "gone.pem", ApplicationCertificate(SystemClock().now()).pem)
        return write_private(self.folder / "m365watch.json", json.dumps(document))

    @property
    def secrets(self) -> list[str]:
        """Everything that may be nowhere but in the files that were written for it."""
        identities = [tenant.identity for tenant in self.running.tenants]
        endpoints = [tenant.tokens for tenant in self.running.tenants]
        signed = [text for one in endpoints for text in (*one.handed_out(), *one.presented())]
        return [
            PASSWORD,
            IDENTITY_HEADER,
            *(part for text in (self.federated, *signed) for part in signature_of(text)),
            *self.certificate.key_lines,
            *(one.client_secret for one in identities),
            *(one.second_secret for one in identities),
            *(one.expired_secret for one in identities),
        ]

    def environment(self, **more: str) -> dict[str, str]:
        key = self.certificate.key_pem().decode()
        found = {"PASSWORD": PASSWORD, "KEY": key.replace("\n", "\\n"), **more}
        return DAY | found | {"PYTHONPATH": python_path(self.folder / "lib")}


def signature_of(text: str) -> list[str]:
    """The two ends of a signature, which no other text has; a piece of a token tells as well as all of it."""
    signature = text.rpartition(".")[2]
    return [signature[:24], signature[-24:]]


def identity_of(running: RunningSimulator) -> str:
    return running.tenants[0].identity.identity_id


async def command(environment: dict[str, str], *arguments: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "m365watch.cli.main", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"} | environment,
    )
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err
    return Ended(process.returncode, out.decode(), err.decode())


def played(folder: Path, play: Any) -> Any:
    """What `play` makes of a scene in `folder`."""

    async def main() -> Any:
        certificate = ApplicationCertificate(SystemClock().now() - timedelta(days=1))
        tenants = [replace(one, certificate=certificate.pem) for one in derive_identities(5, len(KINDS))]
        # One of the days is a working day, whenever this runs: so few records are none on others.
        settings = SimulationSettings(
            seed=5, tenants=tuple(tenants), days=4, records_per_day=6, users=20, live=False
        )
        async with simulator_running(settings, clock=SystemClock()) as running:
            return await play(Scene(folder, running, certificate))

    return asyncio.run(main())


def everything_in(folder: Path) -> dict[str, str]:
    """What a run left behind, by its place: files as they are, and what the lake says of the collector."""
    found = {
        str(path.relative_to(folder)): path.read_bytes().decode("latin-1")
        for top in ("state", "out")
        for path in sorted((folder / top).rglob("*"))
        if path.is_file()
    }
    ledger = sqlite3.connect(folder / "state" / "ledger.sqlite")
    found["ledger, row by row"] = "\n".join(ledger.iterdump())
    ledger.close()
    for table in sorted(path.parent for path in (folder / "lake").rglob("_delta_log")):
        rows = DeltaTable(str(table)).to_pyarrow_table().to_pylist()
        found[f"lake {table.name}"] = "\n".join(map(str, rows))
    return found


def assert_nowhere(secrets: Iterable[str], said: Mapping[str, str]) -> None:
    """No secret, in no place."""
    sought = [*secrets, *TOKEN_STARTS]
    assert all(len(secret) > 5 for secret in sought)
    assert [place for place, text in said.items() for secret in sought if secret in text] == []


@guarantee(24)
@pytest.mark.slow
def test_every_kind_collects_its_tenant_and_tells_no_secret(tmp_path: Path) -> None:
    """Log, state, lake, files, notices, `status` and `why` of a run of all hold none of the secrets."""

    async def play(scene: Scene) -> None:
        file = str(scene.write(KINDS))
        environment = scene.environment(**scene.running.identity_variables)
        run = await command(environment, "run", "--config", file, "--once", "--verbose", "--json")
        status, why = await asyncio.gather(
            command(environment, "status", "--config", file, "--json"),
            command(environment, "why", "--config", file, "--json"),
        )
        said = {
            "stdout": run.out,
            "stderr": run.err,
            "status": status.out + status.err,
            "why": why.out + why.err,
            **everything_in(tmp_path),
        }

        assert run.exit_code == 0, run.err
        assert why.exit_code == 0, why.out + why.err
        delivered = {feed["tenant"] for feed in json.loads(run.out)["feeds"] if feed["records"]["delivered"]}
        assert delivered == {tenant.identity.tenant_id for tenant in scene.running.tenants}
        held = Place(tmp_path).holdings()
        served = sum(tenant.truth().record_count for tenant in scene.running.tenants)
        assert (len(held["lake"]), len(held["files"])) == (served, served)
        assert "collectors_out" in "".join(said)
        assert all(tenant.tokens.handed_out() for tenant in scene.running.tenants)
        assert sum(len(tenant.tokens.presented()) for tenant in scene.running.tenants) >= 2 * 7
        assert_nowhere(scene.secrets, said)
        falls = sorted(line.partition(": credentials.")[2] for line in run.err.splitlines() if FALLS in line)
        assert [fall.partition(" does")[0] for fall in falls] == ["certificate_file", "client_secret"]
        assert "AADSTS700027" in falls[0]
        assert "and credentials.second.client_secret is used in its place: AADSTS7000222" in falls[1]

    played(tmp_path, play)


@guarantee(24)
@pytest.mark.slow
def test_credentials_that_all_fail_are_named_and_tell_no_secret(tmp_path: Path) -> None:
    """Exit code 1, one line a feed that names each credential and its cure, and none of what was sent."""

    async def play(scene: Scene) -> None:
        issuer, now = scene.running.issuer, SystemClock().now()
        wrong = issuer.token(now, sub="system:serviceaccount:default:default")
        file = scene.write(["federated", "pem", "second"])
        write_private(tmp_path / "token", wrong)
        write_private(tmp_path / "cert.pem", ApplicationCertificate(now, key=scene.certificate.key).pem)
        document = json.loads(file.read_text())
        last = document["inputs"]["second"]["credentials"]
        last["second"] = {"client_secret": "not~the~right~one", "managed_identity": True}
        file.write_text(json.dumps(document))
        environment = scene.environment(**scene.running.identity_variables, IDENTITY_ENDPOINT="")
        run = await command(environment, "run", "--config", str(file), "--once", "--verbose", "--json")
        errors = [line for line in run.err.splitlines() if " error " in line]

        assert run.exit_code == 1
        assert any("AADSTS700213" in line and "federated credential in Entra" in line for line in errors)
        assert any("AADSTS700027" in line and "upload the certificate" in line for line in errors)
        # The identity vouches for the application, as the simulated tenant lets any of Entra's.
        assert "credentials.second.managed_identity is used in its place" in run.err
        secrets = [*scene.secrets, "not~the~right~one", *signature_of(wrong)]
        assert_nowhere(secrets, {"stdout": run.out, "stderr": run.err, **everything_in(tmp_path)})

    played(tmp_path, play)


@guarantee(24)
@pytest.mark.slow
def test_app_service_gives_the_token_of_its_identity(tmp_path: Path) -> None:
    """Where the environment names App Service's endpoint, that is asked in place of IMDS."""

    async def play(scene: Scene) -> None:
        file = str(scene.write(["managed_identity"]))
        environment = scene.environment(**scene.running.app_service_variables)
        run = await command(environment, "run", "--config", file, "--once", "--verbose", "--json")

        assert run.exit_code == 0, run.err
        assert scene.running.report["requests"]["identity"] == 1
        assert "token" not in scene.running.report["requests"]
        assert_nowhere(scene.secrets, {"stdout": run.out, "stderr": run.err, **everything_in(tmp_path)})

    played(tmp_path, play)
