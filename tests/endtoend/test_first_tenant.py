"""From nothing to a tenant that is collected: init, consent, run, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

from commands import LIMIT_S, Ended, command, ended
from m365watch.cli.program import app
from m365watch.cli.terminal.error_output import exit_code_of, lines_of
from m365watch.common.clock import SystemClock
from m365watch.common.errors import CollectorError
from m365watch_simulator.service.scenario import parse_scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from place import records_in_lake

NO_CONSENT = "behaviour: {consented: false}"


@dataclass
class Newcomer:
    """Somebody with an application, a secret in a file, and a tenant that does not know it yet."""

    folder: Path
    running: RunningSimulator

    @property
    def config(self) -> Path:
        return self.folder / "m365watch.yaml"

    @property
    def tenant_id(self) -> str:
        return self.running.tenants[0].identity.tenant_id

    async def init(self, *more: str) -> Ended:
        secret = self.folder / "secret"
        secret.write_text(self.running.tenants[0].identity.client_secret + "\n")
        secret.chmod(0o600)
        return self.discreet(
            await invoke(
                *("init", "--out", str(self.config), "--secret-file", str(secret)),
                *("--client-id", self.running.tenants[0].identity.client_id),
                *("--cloud", "custom", "--login-url", self.running.url, "--management-url", self.running.url),
                *more,
            )
        )

    async def serve(self, *more: str) -> tuple[Ended, str]:
        """`consent serve`, its address opened in a browser: how it ended, and the last page."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "m365watch.cli.main", "consent", "serve", "--config", str(self.config)),
            *("--port", "0", "--json", *more),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"NO_COLOR": "1"},
        )
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            first = json.loads(await process.stdout.readline())
            async with aiohttp.ClientSession() as browser, browser.get(first["url"]) as page:
                shown = await page.text()
        return self.discreet(await ended(process)), shown

    def discreet(self, told: Ended) -> Ended:
        """Nothing that was said has the secret in it."""
        assert self.running.tenants[0].identity.client_secret not in told.out + told.err
        return told


@asynccontextmanager
async def newcomer(folder: Path, scenario: str = NO_CONSENT) -> AsyncIterator[Newcomer]:
    settings = SimulationSettings(
        seed=5, days=2, records_per_day=60, live=False, scenario=parse_scenario(scenario, where="a test")
    )
    async with simulator_running(settings, clock=SystemClock()) as running:
        yield Newcomer(folder, running)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["admin", "code"])
def test_three_commands_lead_from_nothing_to_every_record(tmp_path: Path, form: str) -> None:
    """The tenant is found by consent, written where it belongs, and collected whole."""

    async def main() -> None:
        async with newcomer(tmp_path) as person:
            made = await person.init()
            assert made.exit_code == 0
            assert f"m365watch consent serve --config {person.config}" in made.out
            before = person.config.read_text()
            assert person.config.stat().st_mode & 0o777 == 0o600

            told, page = await person.serve("--form", form, "--yes")

            assert told.exit_code == 0
            assert json.loads(told.out) == {
                "schema": 1,
                "tenant_id": person.tenant_id,
                "input": "office365",
                "config": str(person.config),
                "written": True,
            }
            assert person.tenant_id in page
            assert person.config.read_text() == before.replace("<tenant>", person.tenant_id)
            if form == "code":
                return
            run = person.discreet(await command("run", "--config", str(person.config), "--once"))
            assert (run.exit_code, run.complaints) == (0, [])
            served = person.running.tenants[0].truth()
            assert served.judge(records_in_lake(tmp_path / "lake")).flawless

    asyncio.run(main())


def test_a_refusal_writes_nothing(tmp_path: Path) -> None:
    """Exit code 1, the cure on the terminal and on the page."""

    async def main() -> None:
        scenario = "behaviour: {consented: false, consent_answer: canceled}"
        async with newcomer(tmp_path, scenario) as person:
            await person.init()
            before = person.config.read_bytes()

            told, page = await person.serve("--yes")

            assert told.exit_code == 1
            assert "error: consent: nobody has consented: permission_denied" in told.err
            assert "hint: let an administrator" in told.err
            assert "let an administrator" in page
            assert person.config.read_bytes() == before

    asyncio.run(main())


@pytest.mark.parametrize("form", ["code", "v1"])
def test_a_code_can_be_brought_by_hand(tmp_path: Path, form: str) -> None:
    """Where no browser runs here: state and verifier are kept in a file, which goes when it was used."""

    async def main() -> None:
        async with newcomer(tmp_path) as person:
            await person.init()
            config, kept = ["--config", str(person.config)], tmp_path / "kept.json"
            asked = await invoke("consent", "url", *config, "--form", form, "--keep", str(kept))
            assert kept.stat().st_mode & 0o777 == 0o600
            address = await redirected(asked.out.strip())

            wrong = await exchange(person, address.replace("state=", "state=x"), "--keep", str(kept))
            assert wrong.exit_code == 1
            assert "state is not that of the question" in wrong.err
            good = await exchange(person, address, "--keep", str(kept))
            assert (good.exit_code, good.out) == (0, f"tenant {person.tenant_id} has consented\n")
            assert f'+      tenant_id: "{person.tenant_id}"' in good.err
            assert not kept.exists()
            assert f'tenant_id: "{person.tenant_id}"' in person.config.read_text()

            again = await exchange(person, address, "--form", form)
            assert (again.exit_code, "AADSTS54005" in again.err) == (1, True)

    asyncio.run(main())


def test_an_admin_consent_can_be_brought_by_hand(tmp_path: Path) -> None:
    """The tenant that the address names is believed once a token names it as well."""

    async def main() -> None:
        async with newcomer(tmp_path) as person:
            await person.init()
            asked = await invoke("consent", "url", "--config", str(person.config), "--form", "admin")
            address = await redirected(asked.out.strip())

            forged = address.replace(person.tenant_id, "0a1b2c3d-0000-4000-8000-00000000000a")
            assert (await exchange(person, forged)).exit_code == 1
            assert "<tenant>" in person.config.read_text()
            good = await exchange(person, address, "--json")
            assert json.loads(good.out)["written"] is True
            again = await exchange(person, address, "--json")
            assert (again.exit_code, json.loads(again.out)["written"]) == (0, False)

    asyncio.run(main())


def test_init_tries_what_it_has_written(tmp_path: Path) -> None:
    """It ends as the preflight does: 0 where all works, 1 where the tenant does not know the application."""

    async def main() -> list[tuple[int, str]]:
        async with newcomer(tmp_path) as person:
            first = await person.init("--tenant", person.tenant_id)
            person.running.tenants[0].tokens.consent.give(SystemClock().now())
            second = await person.init("--tenant", person.tenant_id, "--yes")
            return [(told.exit_code, told.out.partition("next:\n")[2]) for told in (first, second)]

    config = tmp_path / "m365watch.yaml"
    run = f"  m365watch run --config {config}\n  m365watch status --config {config}\n"
    assert asyncio.run(main()) == [(1, f"  m365watch check --config {config}\n{run}"), (0, run)]


async def invoke(*words: str) -> Ended:
    """A command in a thread of this process, which is there at once."""
    told = await asyncio.to_thread(CliRunner().invoke, app, list(words))
    assert told.exception is None or isinstance(told.exception, SystemExit | CollectorError), told.exception
    if isinstance(told.exception, CollectorError):
        return Ended(exit_code_of(told.exception), told.stdout, "\n".join(lines_of(told.exception)))
    return Ended(told.exit_code, told.stdout, told.stderr)


async def redirected(url: str) -> str:
    """Where the consent page sends its browser."""
    async with aiohttp.ClientSession() as browser, browser.get(url, allow_redirects=False) as page:
        return page.headers["Location"]


async def exchange(person: Newcomer, address: str, *more: str) -> Ended:
    words: list[Any] = ["consent", "exchange", address, "--config", str(person.config), "--yes", *more]
    return person.discreet(await invoke(*words))
