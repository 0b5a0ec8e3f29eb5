"""What `obfuscation_data` names is in nothing that leaves the collector, and in nothing that it keeps."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from promises import guarantee

from commands import Ended, ended
from devo_scene import DevoScene, devo_scene_in, until
from m365watch.common.model import ContentType
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch_simulator.organization.organization import Organisation
from m365watch_simulator.organization.records import SimulatedRecord
from m365watch_simulator.service.identities import TenantIdentity
from m365watch_simulator.service.scenario import Answer, Behaviour, Call, Rule, Scenario
from m365watch_simulator.service.server import SimulationSettings
from place import FILES, LAKE, records_in_files

pytestmark = pytest.mark.slow

ODD = Scenario(
    behaviour=Behaviour(duplicates=False),
    rules=(Rule(on=(Call.CONTENT,), answer=Answer.UNREADABLE_RECORD, share=0.1),),
)
"""Some blobs end in a copy of a record that is no JSON: nobody can tell what is to be masked in it."""
USER = re.compile(rb'("UserId":)"hidden-user-[0-9a-f]+@corp\.example"')
ADDRESS = re.compile(rb"198\.51\.100\.\d+")
DETECTED = re.compile(rb"hidden-card-\d+[^\"]*")
HIDDEN = re.compile(rb"hidden-user-|hidden-card-|198\.51\.100\.")
RULES = [
    {"name": ["UserId"], "value": "masked"},
    {"name": ["*"], "value": "x.x.x.x", "string_patterns": [r"198\.51\.100\.\d+"]},
]
DETECTIONS = (
    b'"SensitiveInformationDetections":{"DetectedValues":'
    b'[{"Name":"hidden-card-4111","Value":"paid with hidden-card-4111 in May"}],"ResultsTruncated":false},'
)
ON_DEVICE = (
    b'{"EndpointMetaData":{"SensitiveInformation":[{'
    + DETECTIONS
    + b'"SensitiveInformationTypeName":"Card"}]},'
)


class TalkativeSource:
    """An organisation whose records hold what is to be masked: users, addresses, detected values.

    What is general elsewhere is of DLP here: of its own it has none in one week of eleven.
    """

    def __init__(self, identity: TenantIdentity, _: datetime) -> None:
        self._organisation = Organisation(5, identity.tenant_id, records_per_day=100)

    def records_between(self, start: datetime, end: datetime) -> list[SimulatedRecord]:
        records = map(_as_detected, self._organisation.records_between(start, end))
        return [replace(record, body=_with_secrets(record)) for record in records]


def _as_detected(record: SimulatedRecord) -> SimulatedRecord:
    if record.content_type is not ContentType.GENERAL:
        return record
    return replace(record, content_type=ContentType.DLP, body=ON_DEVICE + record.body[1:])


def _with_secrets(record: SimulatedRecord) -> bytes:
    number = record.happened_at.microsecond
    body = re.sub(rb'"UserId":"[^"]*"', b'"UserId":"hidden-user-%x@corp.example"' % number, record.body)
    body = re.sub(rb'"(ClientIP|ActorIpAddress)":"[^"]*', rb'"\1":"198.51.100.%d' % (number % 250), body)
    if record.content_type is ContentType.DLP:
        body = body.replace(b'"SensitiveInformationTypeName"', DETECTIONS + b'"SensitiveInformationTypeName"')
    return body


def tenant() -> SimulationSettings:
    source: Any = TalkativeSource
    return SimulationSettings(
        seed=5, days=6, page_size=50, live=False, blob_records=10, scenario=ODD, source=source
    )


def as_masked(record: bytes) -> bytes:
    """The record as all rules leave it."""
    return without_detected(ADDRESS.sub(b"x.x.x.x", USER.sub(rb'\1"masked"', record)))


def without_detected(record: bytes) -> bytes:
    """The record as the rules that `dlp` has by itself leave it."""
    return DETECTED.sub(b"***", record.replace(b"paid with ", b""))


def everything_in(lake: Path) -> bytes:
    """All columns of all tables, as text, and the files of Delta's log."""
    rows = [
        repr(DeltaTable(str(table.parent)).to_pyarrow_table().to_pylist()).encode()
        for table in sorted(lake.glob("*/_delta_log"))
    ]
    return b"".join([*rows, *(path.read_bytes() for path in lake.glob("*/_delta_log/*.json"))])


def in_ledger_but_quarantine(folder: Path) -> str:
    """What the ledger's other tables say."""
    with closing(sqlite3.connect(folder / LEDGER_FILE)) as ledger:
        return "\n".join(line for line in ledger.iterdump() if '"quarantine"' not in line[:40])


async def run_without_devo(scene: DevoScene) -> Ended:
    """A run that brings everything to every output but Devo, whose queue keeps it."""
    process = await scene.start("--verbose")
    ending = asyncio.create_task(ended(process))
    await until(lambda: len(scene.in_lake()) >= scene.scene.truth.record_count, process)
    process.terminate()
    return await ending


@guarantee(11)
@pytest.mark.slow
def test_what_is_masked_is_nowhere(tmp_path: Path) -> None:
    """Not at Devo, in the lake's columns, files, on the console, in a queue, in what rules keep, in a line.

    What no JSON is cannot be masked: no output has it, and quarantine keeps it as it was served.
    """

    async def run() -> None:
        async with devo_scene_in(tmp_path, tenant()) as scene:
            outputs = {"devo": scene.output(), "lake": LAKE, "files": FILES, "console": {"type": "console"}}
            scene.configure(outputs, source={"obfuscation_data": RULES})
            first = await run_without_devo(scene)
            assert first.exit_code == 0, first.err
            queued = b"".join(path.read_bytes() for path in (tmp_path / "state" / "queues").glob("*/*"))
            assert b'"UserId":"masked"' in queued
            with scene.devo:
                last = await scene.run_once()
                at_devo = scene.received_records()
                lines = scene.devo.lines
            assert last.exit_code == 0, last.err
            served = scene.scene.truth.records()
            assert all(any(sign.search(body) for body in served) for sign in (USER, ADDRESS, DETECTED))
            wanted = Counter(map(as_masked, served))
            console = [line.encode() for line in (first.out + last.out).splitlines()]
            for held in (at_devo, scene.in_lake(), records_in_files(tmp_path / "out"), console):
                assert Counter(held) == wanted
            said = (first.err + last.err + in_ledger_but_quarantine(tmp_path / "state")).encode()
            detected = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("detections.sqlite*"))
            assert b"masked" in detected
            for kept in (queued, b"".join(lines), everything_in(tmp_path / "lake"), detected, said):
                assert HIDDEN.search(kept) is None
            check_quarantine(scene)

    asyncio.run(run())


def check_quarantine(scene: DevoScene) -> None:
    """Quarantine has what no JSON was, as it was served."""
    quarantined = scene.scene.place.quarantined()
    assert len(quarantined) == scene.scene.truth.unreadable > 0
    assert all(USER.search(body) and b'"Size":undefined' in body for body in quarantined)


@guarantee(11)
@pytest.mark.slow
def test_detected_values_are_masked_unless_that_is_switched_off_by_name(tmp_path: Path) -> None:
    """`dlp` masks what its rules found; with `obfuscate_detected_values` off it arrives."""

    async def run(folder: Path, options: dict[str, object]) -> tuple[Counter[bytes], list[bytes]]:
        async with devo_scene_in(folder, tenant()) as scene:
            scene.configure(services={"dlp": options})
            with scene.devo:
                last = await scene.run_once()
                assert last.exit_code == 0, last.err
                assert Counter(scene.received_records()) == Counter(scene.in_lake())
            served = scene.scene.running.tenants[0].truth(ContentType.DLP).records()
            return Counter(scene.in_lake()), served

    for name in ("masked", "shown"):
        (tmp_path / name).mkdir()
    masked, served = asyncio.run(run(tmp_path / "masked", {}))
    assert masked == Counter(map(without_detected, served))
    assert not any(DETECTED.search(body) for body in masked)

    shown, served = asyncio.run(run(tmp_path / "shown", {"obfuscate_detected_values": False}))
    assert shown == Counter(served)
    assert any(DETECTED.search(body) for body in shown)
