"""What Devo, the lake and the terminal have after a run, with each of Devo's configuration files."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import FLAWLESS, Ended, command
from devo_scene import NOTICES, DevoScene, Received, devo_scene_in
from m365watch.common.model import ContentType
from m365watch_simulator.organization.organization import Organisation
from m365watch_simulator.organization.records import SimulatedRecord
from m365watch_simulator.service.identities import TenantIdentity
from m365watch_simulator.service.server import SimulationSettings
from m365watch_testing.certificates import Authority

PREFIX = "cloud.office365.management."
NOTICE_KEYS = {
    "msg",
    "time",
    "level",
    "collector_name",
    "collector_version",
    "collector_image",
    "input_name",
    "service_name",
    "module_name",
    "job_id",
}
ADDED = re.compile(rb',"@devo_pulling_id":"\d{13}","@devo_environment":"testing"}')


class NovelSource:
    """An organisation whose general records are half of a Workload that nobody knows."""

    def __init__(self, identity: TenantIdentity, _: datetime) -> None:
        self._organisation = Organisation(5, identity.tenant_id, records_per_day=80)

    def records_between(self, start: datetime, end: datetime) -> list[SimulatedRecord]:
        """Those of the organisation, with the Workload of every second general record replaced."""
        records = self._organisation.records_between(start, end)
        return [
            replace(record, body=re.sub(rb'"Workload":"\w+"', b'"Workload":"NovelApps"', record.body))
            if record.content_type is ContentType.GENERAL and record.happened_at.microsecond % 2
            else record
            for record in records
        ]


def tenant(*, novel: bool = False) -> SimulationSettings:
    source: Any = NovelSource if novel else None
    return SimulationSettings(
        seed=5, days=6, records_per_day=80, page_size=50, live=False, blob_records=10, source=source
    )


def tag_of(record: bytes) -> str:
    """The tag that a record is to have at Devo."""
    workload = json.loads(record)["Workload"].lower()
    return "cloud.office365.other" if workload in ("novelapps", "copilot") else PREFIX + workload


def check_notices(notices: list[Received]) -> None:
    """Each is one of Devo's JSON objects under the tag of its level, and the run's beginning is there."""
    told = [json.loads(notice.body) for notice in notices]
    assert {frozenset(one) for one in told} == {frozenset(NOTICE_KEYS)}
    assert {f"devo.collectors.out.local.{one['level']}" for one in told} == {one.tag for one in notices}
    assert any(": started;" in one["msg"] for one in told)
    assert ("office365", "exchange") in {(one["input_name"], one["service_name"]) for one in told}
    assert {one["collector_name"] for one in told} == {"simulated"}


@pytest.mark.slow
def test_a_run_fills_devos_tables_and_the_lake(tmp_path: Path) -> None:
    """Every record is at both, each under its table; what is added for Devo stands before the closing brace.

    A Workload that Devo has no table for goes to the fallback there, and the lake keeps its own name.
    """

    async def run() -> tuple[Ended, list[Received], Counter[tuple[str, bytes]]]:
        async with devo_scene_in(tmp_path, tenant(novel=True)) as scene:
            scene.configure(source={"environment": "testing"})
            with scene.devo:
                ran = await scene.run_once()
                received = scene.received()
            assert scene.scene.truth.judge(scene.received_records()) == FLAWLESS
            assert scene.scene.truth.judge(scene.in_lake()) == FLAWLESS
            return ran, received, scene.tables_in_lake()

    ran, received, kept = asyncio.run(run())
    records = [line for line in received if not line.tag.startswith(NOTICES)]

    assert ran.exit_code == 0, ran.err
    assert Counter(line.record for line in records) == Counter(raw for _, raw in kept.elements())
    assert [line.tag for line in records] == [tag_of(line.record) for line in records]
    assert all(ADDED.fullmatch(line.added) for line in records)
    assert {table for table, _ in kept} == {PREFIX + json.loads(raw)["Workload"].lower() for _, raw in kept}
    assert {PREFIX + name for name in ("sharepoint", "onedrive", "novelapps")} <= {table for table, _ in kept}
    check_notices([line for line in received if line.tag.startswith(NOTICES)])
    check_statistics(ran.err, records=len(records))


def check_statistics(said: str, *, records: int) -> None:
    """The terminal has one line of statistics for each feed with records; their sums are those of the run."""
    told = re.findall(r"(\S+): Statistics for this pull cycle .* generated and sent: (\d+);", said)
    sent = {feed: int(count) for feed, count in told}
    assert len(sent) == len(told)
    assert sum(sent.values()) == records


def write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


def place_certificates(scene: DevoScene, folder: Path) -> None:
    """What Devo hands out for a domain, in `folder`."""
    files = scene.authority.issue("acme", names=["acme"])
    folder.mkdir(parents=True)
    for found, name in (
        (scene.authority.chain, "chain.crt"),
        (files.cert, "acme.crt"),
        (files.key, "acme.key"),
    ):
        shutil.copy(found, folder / name)
    (folder / "acme.key").chmod(0o600)


async def check_both_have_all(scene: DevoScene, *arguments: str) -> None:
    """A run with those arguments brings everything to Devo and to standard output."""
    with scene.devo:
        checked = await command("run", *arguments, "--validate")
        ran = await command("run", *arguments, "--once")
        devo = scene.scene.truth.judge(scene.received_records())
    assert (checked.exit_code, ran.exit_code) == (0, 0), checked.err + ran.err
    assert "error" not in ran.err
    assert devo == FLAWLESS
    assert scene.scene.truth.judge([line.encode() for line in ran.out.splitlines()]) == FLAWLESS


@pytest.mark.slow
def test_devos_own_configuration_works_as_it_stands(tmp_path: Path) -> None:
    """YAML in `config`, certificates in `certs` beside it, Devo and the console as outputs."""

    async def run() -> None:
        async with devo_scene_in(tmp_path, tenant()) as scene:
            place_certificates(scene, tmp_path / "certs")
            names = {"chain": "chain.crt", "cert": "acme.crt", "key": "acme.key"}
            address = {"address": "localhost", "port": scene.devo.port, "type": "SSL"}
            document = {
                "globals": {
                    "debug": False,
                    "id": "not_used",
                    "name": "office365",
                    "persistence": {"type": "filesystem", "config": {"directory_name": "state"}},
                },
                "outputs": {
                    "devo_1": {"type": "devo_platform", "config": address | names},
                    "console_1": {"type": "console"},
                },
                "inputs": scene.scene.running.configuration()["inputs"],
            }
            write_private(tmp_path / "config" / "config.yaml", yaml.safe_dump(document, sort_keys=False))
            await check_both_have_all(scene, "--config", str(tmp_path / "config" / "config.yaml"))

    asyncio.run(run())


@pytest.mark.slow
def test_the_files_of_devos_collector_server_work_as_they_stand(tmp_path: Path) -> None:
    """`job_config.json` and `collector_config.json`, with the keys that the server writes."""

    async def run() -> None:
        async with devo_scene_in(tmp_path, tenant()) as scene:
            place_certificates(scene, tmp_path / "collector" / "certs")
            names = {"chain_loc": "chain.crt", "cert_loc": "acme.crt", "key_loc": "acme.key"}
            address = {"url": "localhost", "port": scene.devo.port}
            collector = {
                "job_id": 1234,
                "job_name": "office365_acme",
                "debug": False,
                "state_store": {"type": "filesystem", "config": {"dir": "state"}},
                "loggers": [{"type": "devo_platform", "config": address | names}, {"type": "console"}],
            }
            job = {
                "inputs": scene.scene.running.configuration()["inputs"],
                "global_overrides": {"debug": False},
            }
            job_file, collector_file = tmp_path / "job.json", tmp_path / "collector" / "collector.json"
            write_private(job_file, json.dumps(job))
            write_private(collector_file, json.dumps(collector))
            files = ("--job_config_loc", str(job_file), "--collector_config_loc", str(collector_file))
            await check_both_have_all(scene, *files)
            notices = [json.loads(line.body) for line in scene.received() if line.tag.startswith(NOTICES)]
            assert {(one["collector_name"], one["job_id"]) for one in notices} == {("office365_acme", "1234")}

    asyncio.run(run())


@pytest.mark.slow
def test_a_wrong_authority_stops_only_its_output(tmp_path: Path) -> None:
    """Of two outputs with certificates of their own, the one that trusts another authority is named.

    `--validate` says so before anything is collected; a run brings the other one everything, and what the
    one lacks waits for a run with the right authority, without being fetched again.
    """

    async def run() -> tuple[Ended, Ended, DevoScene]:
        async with devo_scene_in(tmp_path, tenant()) as scene:
            right, second = scene.output(), scene.output()
            assert right["config"]["cert"] != second["config"]["cert"]
            wrong = with_chain(second, Authority(tmp_path, "Another CA").chain)
            with scene.devo:
                scene.configure({"devo": right, "second": wrong})
                checked = await command("run", "--config", scene.file, "--validate")
                assert scene.fetches == 0
                ran = await scene.run_once()
                assert scene.scene.truth.judge(scene.received_records()) == FLAWLESS
                before = scene.fetches
                scene.configure({"devo": right, "second": second})
                last = await scene.run_once()
                found = Counter(scene.received_records())
            assert (last.exit_code, scene.fetches) == (0, before), last.err
            assert scene.scene.truth.judge(found) == FLAWLESS
            assert set(found.values()) == {2}
            return checked, ran, scene

    checked, ran, scene = asyncio.run(run())

    refused = f"output second: localhost:{scene.devo.port}: the server's certificate is not trusted"
    assert (checked.exit_code, ran.exit_code) == (1, 1)
    for ended in (checked, ran):
        [told] = [line for line in ended.complaints if refused in line and line[:1].isdigit()]
        assert "SetupError [CODE:0110]" in told
        assert "; put the certificate of the authority that issued it into the file" in told
    assert "hint: put the certificate of the authority that issued it into the file" in checked.err


def with_chain(output: Mapping[str, Any], chain: Path) -> dict[str, Any]:
    """The output, trusting another authority."""
    return {**output, "config": {**output["config"], "chain": str(chain)}}
