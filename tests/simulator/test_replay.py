from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from caller import START, Caller, calling, in_loop
from m365watch.common.model import ContentType
from m365watch_simulator.feed.replay import ReplaySource, content_type_of_record

REAL = Path(__file__).parents[3] / "shared" / "data"
LINES = [
    b'{"Id":"1","RecordType":15,"Workload":"AzureActiveDirectory"}',
    b'{ "Workload" : "Exchange", "RecordType":2, "Id":"2", "Path":"a\\/b" }',
    '{"Id":"3","RecordType":25,"Workload":"MicrosoftTeams","Name":"zoë \u2028"}'.encode(),
    b'{"RecordType":6,"Workload":"OneDrive"}',
    b'{"Id":"5","RecordType":11,"Workload":"OneDrive"}',
    b'{"Id":"6","Score":NaN}',
]


@in_loop
async def test_a_file_is_served_line_by_line_byte_for_byte(tmp_path: Path) -> None:
    """`--records`: escapes, spaces, missing Ids and odd texts stay; blank lines are left out."""
    file = tmp_path / "records.ndjson"
    file.write_bytes(b"\n\n".join(LINES) + b"\n")
    async with calling(records_file=file, subscribed=False) as caller:
        assert sorted(await served_texts(caller)) == sorted(LINES)
        assert sorted(caller.running.tenants[0].truth().records()) == sorted(LINES)


@pytest.mark.parametrize(
    ("workload", "record_type", "expected"),
    [
        ("AzureActiveDirectory", 8, ContentType.AZURE_ACTIVE_DIRECTORY),
        ("AzureActiveDirectory", 15, ContentType.AZURE_ACTIVE_DIRECTORY),
        ("Exchange", 1, ContentType.EXCHANGE),
        ("Exchange", 50, ContentType.EXCHANGE),
        ("Exchange", 13, ContentType.DLP),
        ("SharePoint", 11, ContentType.DLP),
        ("Endpoint", 63, ContentType.DLP),
        ("SharePoint", 4, ContentType.SHAREPOINT),
        ("OneDrive", 56, ContentType.SHAREPOINT),
        ("MicrosoftTeams", 25, ContentType.GENERAL),
        ("SecurityComplianceCenter", 40, ContentType.GENERAL),
        (None, None, ContentType.GENERAL),
    ],
)
def test_a_record_rides_in_its_content_type(
    workload: str | None, record_type: int | None, expected: ContentType
) -> None:
    """Contract 4.1: by Workload and RecordType; everything else is general."""
    text = json.dumps({"Workload": workload, "RecordType": record_type}).encode()
    assert content_type_of_record(text) is expected


def test_a_text_that_is_no_record_is_general() -> None:
    """Nothing in a file stops the replay."""
    assert content_type_of_record(b'{"Workload": "Exch') is ContentType.GENERAL


def test_the_lines_are_spread_over_the_days(tmp_path: Path) -> None:
    """Evenly, in the file's order, and all before the start."""
    file = tmp_path / "records.ndjson"
    file.write_bytes(b"\n".join(LINES))
    source = ReplaySource(file, now=START, days=6)
    records = source.records_between(START - timedelta(days=6), START)
    assert [record.body for record in records] == LINES
    assert records[0].happened_at == START - timedelta(days=6)
    assert records[-1].happened_at < START - timedelta(hours=1)
    assert source.records_between(START, START + timedelta(days=1)) == []


@in_loop
async def test_an_unreadable_line_is_served_and_not_asked_for(tmp_path: Path) -> None:
    """It is part of a blob all the same, and counted."""
    file = tmp_path / "records.ndjson"
    file.write_bytes(b'{"Id":"1"}\n{"Id":undefined}\n{"Id":"2"}\n')
    async with calling(records_file=file, subscribed=False) as caller:
        truth = caller.running.tenants[0].truth()
        assert len(await served_texts(caller)) == 3
    assert (truth.unreadable, truth.record_count) == (1, 2)


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared records are not on this machine")
@pytest.mark.parametrize("name", ["records-lab-tenant.ndjson", "records-open.ndjson"])
@in_loop
async def test_real_records_are_served_whole(name: str) -> None:
    """Every line of the shared files comes out once, as it stands."""
    expected = sorted((REAL / name).read_bytes().splitlines())
    async with calling(records_file=REAL / name, subscribed=False) as caller:
        tenant = caller.running.tenants[0]
        tenant.truth()
        blobs = [blob for content_type in ContentType for blob in tenant.publication.blobs(content_type)]
    assert sorted(element for blob in blobs for element in blob.elements()) == expected


async def served_texts(caller: Caller) -> list[bytes]:
    """Every element of every blob that can be listed."""
    texts: list[bytes] = []
    for content_type in ContentType:
        await caller.start(content_type)
        for named in await caller.list_week(content_type):
            texts += await caller.fetch_records(named["contentId"])
    return texts
