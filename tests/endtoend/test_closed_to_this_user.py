"""Commands by another user than the one whose files these are: each says in a line what is closed."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from forked import PIPE, Forked, fork
from promises import guarantee
from rights import why_kept

from commands import LIMIT_S, Ended, Scene, ended, scene_in
from m365watch.common.clock import SystemClock
from m365watch_testing.applications import ApplicationCertificate, write_private

OTHER = 65_534
RULE = """\
title: A rule of one's own
logsource: {product: m365}
detection: {s: {Operation: NobodyDoesThis}, condition: s}
level: high
"""
CHECK = ("check", "--json")
ONCE = ("run", "--once")
STATUS = ("status",)
QUERY = ("query", "SELECT count(*) FROM audit")
SEARCH = ("search", "op:FileAccessed")
HUNT = ("hunt",)
LASTING = ("run",)
"""Told to stop once it has started and said what is closed."""

pytestmark = pytest.mark.skipif(bool(why_kept()), reason=why_kept() or "there are rights to give up")


@dataclass(frozen=True)
class House:
    """A collector's files beside a tenant that answers; commands there may pass no closed door."""

    runner: asyncio.Runner
    scene: Scene

    @property
    def folder(self) -> Path:
        return self.scene.place.folder

    def say(self, words: tuple[str, ...], *, config: str = "m365watch.json", until: str = "") -> Ended:
        """What a command says to whom others' files are closed; one that lasts, until it says `until`."""
        return self.runner.run(self._say(words, config, until.encode()))

    async def _say(self, words: tuple[str, ...], config: str, until: bytes) -> Ended:
        process = await fork(
            "m365watch.cli.main",
            *words,
            *("--config", str(self.folder / config)),
            folder=self.folder,
            stdout=PIPE,
            stderr=PIPE,
            environment=os.environ | {"NO_COLOR": "1", "COLUMNS": "500"},
            has_rights=False,
        )
        begun = await stopped_in_time(process, until) if words == LASTING else b""
        said = await ended(process)
        return Ended(said.exit_code, said.out, begun.decode() + said.err)


async def stopped_in_time(process: Forked, until: bytes) -> bytes:
    """What it says to its end, or until it has started and said `until`: then it is told to stop."""
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(LIMIT_S):
        while line := await process.stderr.readline():
            said += line
            if b"started;" in said and until in said:
                process.terminate()
                break
    return said


@contextmanager
def closed(path: Path) -> Iterator[None]:
    """While entered, the file or folder is somebody else's, and nobody else's."""
    mode = path.stat().st_mode & 0o7777
    os.chown(path, OTHER, OTHER)
    path.chmod(0o700 if path.is_dir() else 0o600)
    try:
        yield
    finally:
        os.chown(path, 0, 0)
        path.chmod(mode)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with tempfile.TemporaryDirectory() as base, ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        (folder := Path(base, "house")).mkdir()
        closing = AsyncExitStack()
        scene = runner.run(closing.enter_async_context(scene_in(folder, records_per_day=10)))
        stack.callback(lambda: runner.run(closing.aclose()))
        furnish(scene)
        made = House(runner, scene)
        first = made.say(ONCE)
        assert first.exit_code == 0, first.err
        yield made


def furnish(scene: Scene) -> None:
    """Rules and exceptions of one's own, and beside the configuration one with a certificate."""
    folder = scene.place.folder
    document = json.loads(scene.file.read_text())
    document["detections"] = {
        "packs": [],
        "rules_directories": "rules/mine",
        "exceptions_file": "exceptions/mine.yml",
    }
    for name, text in (("rules/mine/own.yml", RULE), ("exceptions/mine.yml", "exceptions: []\n")):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    (folder / "keys").mkdir()
    certificate = ApplicationCertificate(SystemClock().now())
    write_private(folder / "keys" / "cert.pem", certificate.pem)
    write_private(folder / "keys" / "key.pem", certificate.key_pem())
    write_private(scene.file, json.dumps(document))
    credentials = document["inputs"]["office365"]["credentials"]
    del credentials["client_secret"]
    credentials |= {"certificate_file": "keys/cert.pem", "private_key_file": "keys/key.pem"}
    write_private(folder / "certificate.json", json.dumps(document))


CLOSED = "is closed to user 0, who runs this"
FILE = "cannot be read: Permission denied: it is a file of user 65534 (mode 0600), and user 0 runs this"
Said = dict[tuple[str, ...], tuple[int, str]]
"""The exit code of each command, and what its one line about it has to hold."""

CASES: dict[str, tuple[list[str], Said]] = {
    "configuration": (
        ["m365watch.json"],
        dict.fromkeys((CHECK, ONCE, LASTING, STATUS, QUERY), (2, f"m365watch.json: {FILE}")),
    ),
    "folder of the configuration": (
        ["."],
        dict.fromkeys((CHECK, ONCE, STATUS), (2, f"m365watch.json: a folder above it {CLOSED}")),
    ),
    "folder of rules": (
        ["rules/mine"],
        {CHECK: (1, f"rules/mine: it {CLOSED}"), LASTING: (0, f"it {CLOSED}"), STATUS: (0, f"it {CLOSED}")},
    ),
    "rule": (
        ["rules/mine/own.yml"],
        {CHECK: (1, f"mine/own.yml: {FILE}"), ONCE: (0, FILE), STATUS: (0, FILE)},
    ),
    "folder of the exceptions": (
        ["exceptions"],
        {CHECK: (1, f"a folder above it {CLOSED}"), ONCE: (0, f"a folder above it {CLOSED}")},
    ),
    "exceptions": (
        ["exceptions/mine.yml"],
        {CHECK: (1, f"mine.yml: {FILE}"), LASTING: (0, FILE), STATUS: (0, FILE)},
    ),
    "state": (
        ["state"],
        {
            CHECK: (1, "state cannot be written: permission denied"),
            LASTING: (1, "the state directory cannot be used (Permission denied)"),
            STATUS: (1, f"the ledger cannot be read: a folder above it {CLOSED}"),
        },
    ),
    "ledger": (
        ["state/ledger.sqlite"],
        dict.fromkeys((CHECK, ONCE, STATUS), (1, f"the ledger {FILE}")),
    ),
    "lake": (
        ["lake"],
        {
            CHECK: (1, "lake cannot be written: permission denied"),
            ONCE: (1, "SetupError [CODE:0110] reason: output lake ("),
            QUERY: (1, f"the lake cannot be read: it {CLOSED}"),
        },
    ),
    "commits of the lake": (
        ["lake/audit/_delta_log"],
        {
            CHECK: (1, "its table `audit` cannot be read: Permission denied"),
            LASTING: (1, "SetupError [CODE:0110] reason: output lake ("),
            QUERY: (1, "the lake cannot be read: Permission denied"),
            SEARCH: (1, "it cannot be read: "),
            HUNT: (1, "Permission denied"),
        },
    ),
    "files": (
        ["out"],
        {
            CHECK: (1, "out cannot be written: permission denied"),
            ONCE: (1, "SetupError [CODE:0110] reason: output files: cannot write to "),
        },
    ),
    "table of the files": (
        ["out/cloud.office365.management.exchange"],
        {CHECK: (1, f"exchange: it {CLOSED}"), LASTING: (1, "exchange: Permission denied")},
    ),
}


@guarantee(29)
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_is_closed_is_one_line_and_loses_nothing(house: House, case: str) -> None:
    """With who it is closed to and the documented exit code; `check --json` ends in its document."""
    places, commands = CASES[case]
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(closed(house.folder / place))
        said = {words: house.say(words, until=wanted) for words, (_, wanted) in commands.items()}

    assert {words: one.exit_code for words, one in said.items()} == {
        words: code for words, (code, _) in commands.items()
    }
    for words, (_, wanted) in commands.items():
        told = lines_of(words, said[words])
        assert len([line for line in told if wanted in line]) == 1, (words, told)
        assert len([line for line in told if line.startswith("error: ")]) <= 1, (words, told)
    house.scene.check_complete()


def lines_of(words: tuple[str, ...], said: Ended) -> list[str]:
    """What a person reads; of a document, what its broken steps have seen."""
    if words != CHECK:
        return [*said.out.splitlines(), *said.err.splitlines()]
    document = json.loads(said.out)
    assert document["exit_code"] == said.exit_code
    return [
        step["seen"] for group in document["groups"] for step in group["steps"] if step["verdict"] == "broken"
    ]


@guarantee(29)
def test_a_closed_key_keeps_a_run_from_starting_and_nobody_from_reading(house: House) -> None:
    """The mistake names key and file; `status` and `query` need no proof."""
    with closed(house.folder / "keys" / "key.pem"):
        run, status = (house.say(words, config="certificate.json") for words in (ONCE, STATUS))

    assert (run.exit_code, status.exit_code) == (2, 0)
    assert f'private_key_file: "keys/key.pem" (text) {FILE}' in run.err.splitlines()[0]
    house.scene.check_complete()
