"""The machine that a tutorial is followed on: its commands run, and the portal is the simulator's.

Nothing of a tutorial is changed but its folder, which is a test's, its one date, which lies ahead, and where
Microsoft is: `init` is told a cloud of its own, and a configuration that is written by hand gets one. The
demo's tenant is less busy. What a program that stays open is asked with goes on from there.
"""

from __future__ import annotations

import asyncio
import configparser
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yaml
from patience import PATIENCE_S
from shifted import DAY

import tutorial_commands
from m365watch.common.clock import SystemClock
from m365watch_simulator.service.identities import derive_identities
from m365watch_simulator.service.scenario import parse_scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from tutorial_pages import Click, Fence, Names, differing_line, parts_of
from tutorial_portal import Portal

TENANT = "11111111-1111-4111-8111-111111111111"
APPLICATION = "22222222-2222-4222-8222-222222222222"
OWN = {TENANT: "contoso.example"}
"""The one tenant of most tutorials, and its domain."""
PLACE = "/srv/m365watch"
"""The folder of the tutorials."""
IDENTITY = "/run/identity"
"""Where an issuer writes its tokens."""
END = "2028-01-31"
"""The day of the tutorials on which something ends; a test must not find it past."""
WEEK_AGO, JUST_NOW = "2026-11-20", "2026-11-27T21:00Z"
"""A day and an instant of the tutorials, as somebody types them who counts back from now."""
CREDENTIALS = "credentials-of-systemd"
_LIMIT_S, _LOOK_S = PATIENCE_S, 0.1
_CONSENT_PAGE = re.compile(r"https?://\S+/(?:adminconsent|authorize)\?\S+")
_EXIT_CODE = re.compile(r"# exit code (\d)")
_COMMAND = """#!/bin/sh
m365watch() { "$PYTHON" -SE "$COMMANDS" "$SOCKET" "$@"; }
demo() { exec "$PYTHON" -SE "$COMMANDS" "$SOCKET" "$@" --records-per-day 250; }
until_stopped() {
    "$PYTHON" -SE "$COMMANDS" "$SOCKET" "$@" 2>"$HOME/told" &
    before=
    for _ in $(seq 200); do
        sleep 0.1
        grep -qs started "$HOME/told" || continue
        now=$(m365watch status --config "$3" | grep '^in all: .* [1-9][0-9]* delivered' | grep -v waiting)
        [ -n "$now" ] && [ "$now" = "$before" ] && break
        before=$now
    done
    kill -TERM $!; wait $!; code=$?
    cat "$HOME/told" >&2
    exit $code
}
case "$1 $2 $*" in
    init*) set -- "$@" --cloud custom --login-url "$SIMULATOR" --management-url "$SIMULATOR" \
        --graph-url "$SIMULATOR/graph" ;;
    "demo "*--no-board*) demo "$@" ;;
    "demo "*) demo "$@" --board ;;
    "consent serve"*) set -- "$@" --port 0 ;;
    run*--once*|run*--validate*) ;;
    run*) until_stopped "$@" ;;
esac
m365watch "$@"
"""


_SUDO = """#!/bin/sh
case "$*" in
    "-u m365watch -s") exit 0 ;;
    -*) echo "sudo: nobody knows what this does here: $*" >&2; exit 1 ;;
esac
exec "$@"
"""
"""There is one user here; whose turn it is at which line, tutorial_users.py looks at."""
_TERMINAL = """\
if [ -f "$TERMINAL" ]; then . "$TERMINAL"; fi
trap '{ export -p; printf "cd %s\\n" "'"'"'$PWD'"'"'"; } >"$TERMINAL"' EXIT
"""
_SERVICE = 'cd /srv/m365watch && exec "$PYTHON" -SE "$COMMANDS" "$SOCKET" run --config m365watch.yaml'
_TURNED = re.compile(r"sudo systemctl (start|stop|restart) m365watch\n")
"""What the reader types, and not a comment that only a test would see."""
_SIMULATE = ".venv/bin/m365watch simulate --days 1 --records-per-day 500 --write-config try.json\n"
_STAYS_OPEN = {"m365watch demo\n": "  http://", _SIMULATE: "collect from it"}
"""What has a terminal of its own, and what its last line has in it once it is at rest."""

Variables = Callable[[RunningSimulator], Mapping[str, str]]
"""What the environment of a place has, by the simulator that it is to meet."""


M = TypeVar("M", bound="Machine")


def no_variables(_running: RunningSimulator) -> Mapping[str, str]:
    """Of a machine like any other."""
    return {}


class Machine(Portal):
    """A folder, a clipboard, and the commands of the tutorial; the portal's acts change the simulator."""

    def __init__(
        self, folder: Path, running: RunningSimulator, commands: Path, variables: Mapping[str, str]
    ) -> None:
        """`commands` is the socket at which m365watch waits; `variables` are what the place sets."""
        super().__init__(folder / "place", running)
        self.files = self.folder
        """Where files lie that a block names."""
        self._unit = ""
        """The systemd unit, as far as the tutorial has written it."""
        self._names: Names | None = None
        """Where what a page names is called otherwise here."""
        self._asked: Fence | None = None
        """The last commands."""
        self._open: list[asyncio.subprocess.Process] = []
        """What has a terminal of its own until the page is over."""
        self.variables = {
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "PYTHON": sys.executable,
            "COMMANDS": str(Path(tutorial_commands.__file__)),
            "SOCKET": str(commands),
            "TERMINAL": str(folder / "terminal"),
            "SIMULATOR": running.url,
            "AZURE_TENANT_ID": TENANT,
            "AZURE_CLIENT_ID": APPLICATION,
            "AZURE_FEDERATED_TOKEN_FILE": str(folder / "identity" / "token"),
            **variables,
            **DAY,
        }
        token = folder / "identity" / "token"
        token.parent.mkdir()
        token.write_text(running.issuer.token(SystemClock().now()))
        token.chmod(0o600)
        self.write_command(folder / "bin" / "m365watch", _COMMAND)
        self.write_command(folder / "bin" / "sudo", _SUDO)

    @staticmethod
    def write_command(path: Path, text: str) -> None:
        """A program of the machine's."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o700)

    def write_configuration(self, name: str) -> None:
        """What somebody has who collects already."""
        self.folder.mkdir()
        path = self.folder / name
        path.write_text(json.dumps(self.running.configuration()))
        path.chmod(0o600)

    async def follow(self, page: str, *, learns_names: bool = False) -> None:
        """Do all that the page says, and hold what it shows against what is printed.

        With `learns_names` people, addresses and alerts may be others here, each the same at every place.
        """
        self._names = Names() if learns_names else None
        try:
            await self._follow(page)
        finally:
            codes = [await self._close(process) for process in self._open]
        assert not any(codes), f"what had a terminal of its own ended with {codes}"

    async def _follow(self, page: str) -> None:
        printed: str | None = None
        for part in parts_of(page):
            if isinstance(part, Click):
                await self.click(part.act)
            elif not part.reason:
                printed = await self.try_block(part, printed)

    async def try_block(self, block: Fence, before: str | None) -> str | None:
        """What the block prints, if it has commands; one of output is held against `before`."""
        match block:
            case Fence(kind="sh") if block.text in _STAYS_OPEN:
                return await self._start(block)
            case Fence(kind="sh") if turned := _TURNED.fullmatch(block.text):
                await self._turn_service(turned[1])
            case Fence(kind="sh"):
                return await self._run(block)
            case Fence(kind="text"):
                assert before is not None, f"line {block.line} shows what no command printed"
                await self._compare_in_time(block, before)
            case Fence(kind="yaml", title="kubernetes"):
                await self._deploy(block)
            case Fence(kind="yaml"):
                self._edit(block)
            case Fence(kind="ini"):
                await self._serve(block)
            case Fence(kind=kind):
                raise AssertionError(f"line {block.line}: nobody knows how to try a block of {kind}")
        return None

    # What the machine does.

    async def click(self, act: str) -> None:
        """Do what is done in the portal; no act at all is another machine."""
        if act:
            await super().click(act)
        else:
            self._begin_again()

    async def _turn_service(self, how: str) -> None:
        """What systemd does with the service when it is told to `start`, `stop` or `restart` it."""
        if how != "start":
            assert await self._close(self._open.pop()) == 0
        if how != "stop":
            self._open.append(service := await self._begin(_SERVICE, {}))
            assert service.stdout is not None
            while "started" not in (line := await _next_line(service.stdout)):
                assert line, "the service ended"

    def _begin_again(self) -> None:
        """Another machine, or the same one with nothing on it."""
        self._unit = ""
        (self.folder.parent / "terminal").unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent / "etc"):
            if folder.exists():
                folder.rename(folder.with_name(f"{folder.name}-{len(list(folder.parent.iterdir()))}"))

    async def _run(self, block: Fence) -> str:
        """What the block prints, on both streams; it has to end as it says."""
        self._asked = block
        code, printed = await self.shell(block.text)
        said = _EXIT_CODE.search(block.text)
        assert code == (int(said[1]) if said else 0), f"line {block.line} ended with {code}:\n{printed}"
        return printed

    async def _start(self, block: Fence) -> str:
        """What the program prints until it has nothing more to do; it stays there until the page is over."""
        process = await self._begin(f"exec {block.text}", {})
        self._open.append(process)
        assert process.stdout is not None
        lines: list[str] = []
        while not (lines and _STAYS_OPEN[block.text] in lines[-1]):
            line = await _next_line(process.stdout)
            assert line, f"line {block.line} ended:\n{''.join(lines)}"
            lines.append(line)
        return "".join(lines)

    async def _close(self, process: asyncio.subprocess.Process) -> int:
        """The exit code of a program that is asked to end, as by Ctrl-C."""
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(_LIMIT_S):
            await process.communicate()
        return process.returncode or 0

    async def _begin(self, text: str, variables: Mapping[str, str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("/bin/sh", "-ec", self.localized(text)),
            cwd=self.folder if self.folder.is_dir() else self.folder.parent,
            env={**self.variables, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    async def shell(self, text: str, variables: Mapping[str, str] | None = None) -> tuple[int, str]:
        """In the terminal that the commands before were typed into: its folder and its variables stay."""
        process = await self._begin(text if variables else _TERMINAL + text, variables or {})
        assert process.stdin is not None
        process.stdin.write(f"{self.clipboard}\n".encode())
        process.stdin.close()
        printed = await self._watched(process)
        async with asyncio.timeout(_LIMIT_S):
            code = await process.wait()
        assert "Traceback" not in printed, printed
        assert not [one for one in self._secrets() if one in printed]
        return code, self._shown(printed)

    def _secrets(self) -> list[str]:
        ours = self.identity
        return [one for one in (ours.client_secret, ours.second_secret) if one]

    async def _consent(self, browser: aiohttp.ClientSession, page: str) -> None:
        """Accept; where nobody answers at the address that this leads to, it is what the browser shows."""
        async with browser.get(page, allow_redirects=False) as answer:
            self.clipboard = address = answer.headers["Location"]
        with suppress(aiohttp.ClientConnectorError):
            async with browser.get(address) as answer:
                assert answer.status == 200

    async def _watched(self, process: asyncio.subprocess.Process) -> str:
        """What the process prints; a page of consent that it names is opened, as by an administrator."""
        assert process.stdout is not None
        lines: list[str] = []
        async with aiohttp.ClientSession() as browser:
            while line := await _next_line(process.stdout):
                lines.append(line)
                for page in _CONSENT_PAGE.findall(lines[-1]):
                    await self._consent(browser, page)
        return "".join(lines)

    def localized(self, text: str) -> str:
        """What the page says, with this machine's folders, its dates, and the names that are known."""
        ahead = SystemClock().now().astimezone(UTC) + timedelta(days=400)
        text = self._names.here(text) if self._names else text
        for path, here in self._places().items():
            text = re.sub(rf"{path}(?![\w.-])", str(here), text)
        text = text.replace(WEEK_AGO, f"{ahead - timedelta(days=407):%Y-%m-%d}")
        text = text.replace(JUST_NOW, f"{ahead - timedelta(days=400, seconds=1):%Y-%m-%dT%H:%M:%SZ}")
        return text.replace(END, f"{ahead:%Y-%m-%d}")

    def _places(self) -> dict[str, Path]:
        """Folders of the tutorials, and where they are here."""
        home = self.folder.parent
        return {PLACE: self.folder, "/etc/m365watch": home / "etc", IDENTITY: home / "identity"}

    def _shown(self, printed: str) -> str:
        """What was printed, as it would be at Microsoft's addresses and in the tutorial's folder."""
        text = printed
        for path, here in self._places().items():
            text = text.replace(str(here), path)
        text = re.sub(re.escape(self.running.url) + r"(?=/[\w.-]+/(?:adminconsent|oauth2))", _LOGIN, text)
        return text.replace(self.running.url, "https://manage.office.com")

    async def _compare_in_time(self, shown: Fence, printed: str) -> None:
        """While a service runs, what it has not come to yet is looked for again."""
        asked, until_s = self._asked, time.monotonic() + _LIMIT_S
        while self._open and asked is not None and _asks(asked) and time.monotonic() < until_s:
            if differing_line(self._end_named(shown.text), printed, self._names) is None:
                return
            await asyncio.sleep(_LOOK_S)
            printed = await self._run(asked)
        self._compare(shown, printed)

    def _compare(self, shown: Fence, printed: str) -> None:
        differing = differing_line(self._end_named(shown.text), printed, self._names)
        assert differing is None, f"line {shown.line} shows {differing!r}; printed was:\n{printed}"

    def _end_named(self, text: str) -> str:
        return text.replace(END, self.localized(END))

    def _edit(self, block: Fence) -> None:
        """Do to a configuration what the block shows: it is the file of that name, or goes into it."""
        how, _, name = block.title.rpartition(" ")
        path = self.files / name
        given = yaml.safe_load(self.localized(block.text))
        match how:
            case "in":
                before = yaml.safe_load(path.read_text())
                document = _merged(before, given)
                self._place(document["inputs"][name] for name in {*document["inputs"]} - {*before["inputs"]})
            case "sections of":
                document = yaml.safe_load(path.read_text()) | given
            case "services of":
                document = yaml.safe_load(path.read_text())
                for section in document["inputs"].values():
                    section["services"] = given
            case "out of":
                document = _without(yaml.safe_load(path.read_text()), given)
            case "" if "inputs" in given:
                self.place_configuration(path, given)
                return
            case "":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self.localized(block.text))
                return
            case _:
                raise AssertionError(f"line {block.line}: a block of YAML begins with its file's name")
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    async def _deploy(self, block: Fence) -> None:
        """Put the configuration of the manifest where the pod has it, and run the container's command."""
        objects = {one["kind"]: one for one in yaml.safe_load_all(self.localized(block.text))}
        assert {one["metadata"]["namespace"] for one in objects.values()} == {"monitoring"}
        pod = objects["Deployment"]["spec"]["template"]
        assert pod["spec"]["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]
        assert pod["metadata"]["labels"]["azure.workload.identity/use"] == "true"
        [container] = pod["spec"]["containers"]
        mounts = {one["name"]: Path(one["mountPath"]) for one in container["volumeMounts"]}
        assert mounts.keys() == {one["name"] for one in pod["spec"]["volumes"]}
        mounts["data"].mkdir()
        mounts["config"].mkdir()
        for name, text in objects["ConfigMap"]["data"].items():
            self.place_configuration(mounts["config"] / name, yaml.safe_load(text))
        code, printed = await self.shell(shlex.join(container["command"]))
        assert code == 0, f"line {block.line}:\n{printed}"

    def place_configuration(self, path: Path, document: Any) -> None:
        """A configuration that was written by hand, in the simulator's cloud."""
        self._place(document["inputs"].values())
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o600)

    def _place(self, inputs: Iterable[Any]) -> None:
        """Put inputs that were written by hand into the simulator's cloud."""
        for section in inputs:
            section["cloud"] = {"login_url": self.running.url, "management_url": self.running.url}

    async def _serve(self, block: Fence) -> None:
        """Start the service of a systemd unit as systemd does, until it has caught up, and stop it."""
        unit = configparser.ConfigParser(interpolation=None, strict=False)
        unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
        self._unit += self.localized(block.text)
        unit.read_string(self._unit)
        service = unit["Service"]
        variables = self._lend(service["LoadCredential"]) if "LoadCredential" in service else {}
        program, *words = shlex.split(service["ExecStart"])
        assert Path(program).name == "m365watch"
        code, printed = await self.shell(shlex.join(["m365watch", *words]), variables)
        assert code == 0, f"line {block.line}:\n{printed}"

    def _lend(self, credential: str) -> dict[str, str]:
        """Put a credential where systemd would, and say where as it does."""
        name, source = credential.split(":")
        target = self.folder.parent / CREDENTIALS
        target.mkdir()
        (target / name).write_bytes(Path(source).read_bytes())
        (target / name).chmod(0o400)
        return {"CREDENTIALS_DIRECTORY": str(target)}


_LOGIN = "https://login.microsoftonline.com"


async def _next_line(stream: asyncio.StreamReader) -> str:
    """What is printed next; "" at the end. Whole commands may take long on a busy machine."""
    async with asyncio.timeout(_LIMIT_S):
        return (await stream.readline()).decode()


def _asks(block: Fence) -> bool:
    """Whether the commands change nothing, so that they may be asked again."""
    words = re.findall(r"^m365watch (\w+)", block.text, re.MULTILINE)
    return bool(words) and {*words} <= {"check", "query", "status", "tenants"}


def _merged(document: Any, given: Any) -> Any:
    if not isinstance(document, dict) or not isinstance(given, dict):
        return given
    return document | {key: _merged(document.get(key), value) for key, value in given.items()}


def _without(document: Any, given: Any) -> Any:
    """The document without the lines that `given` shows: they have to be there."""
    if isinstance(given, list):
        assert set(given) <= set(document)
        return [one for one in document if one not in given]
    if not isinstance(given, dict):
        assert document == given
        return None
    kept = {key: _without(value, given[key]) if key in given else value for key, value in document.items()}
    assert given.keys() <= document.keys()
    return {key: value for key, value in kept.items() if value is not None} or None


@asynccontextmanager
async def machine_at(
    folder: Path,
    commands: Path,
    *,
    tenants: Mapping[str, str] = OWN,
    scenario: str = "",
    variables: Variables = no_variables,
    records_per_day: int = 40,
    kind: type[M],
) -> AsyncIterator[M]:
    """A machine, and simulated tenants with the ids and domains of the tutorials, and one application."""
    derived = derive_identities(5, len(tenants))
    identities = tuple(
        replace(
            one,
            tenant_id=tenant,
            domain=domain,
            client_id=APPLICATION,
            client_secret=derived[0].client_secret,
            second_secret="",
        )
        for one, (tenant, domain) in zip(derived, tenants.items(), strict=True)
    )
    settings = SimulationSettings(
        seed=5,
        tenants=identities,
        days=1,
        records_per_day=records_per_day,
        live=False,
        scenario=parse_scenario(scenario, where="a tutorial") if scenario else None,
    )
    async with simulator_running(settings, clock=SystemClock()) as running:
        yield kind(folder, running, commands, variables(running))
