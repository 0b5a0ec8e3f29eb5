"""What a lake already has: by what makes records the same, and by their bytes where they have no Id."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from m365watch.common.model import Batch, BatchPart, BlobKey, ContentType, Feed, TenantId
from m365watch.lake.stored_records import LakeWitness
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.records.split import split_blob

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ONE = b'{"Id":"a","CreationTime":"2026-10-01T09:00:00","Operation":"Get","RecordType":2}'
OTHER_ORDER = b'{"RecordType":2,"Operation":"Get","CreationTime":"2026-10-01T09:00:00","Id":"a"}'
OTHER_OPERATION = ONE.replace(b"Get", b"Set")
WITHOUT_ID = b'{"CreationTime":"2026-10-01T10:00:00","Operation":"Get","RecordType":2}'
WITHOUT_TIME = b'{"Id":"b","CreationTime":"soon","Operation":"Get","RecordType":2}'


def lake_of(directory: Path, records: list[bytes]) -> None:
    """A lake with these records."""
    split = split_blob(b"[" + b",".join(records) + b"]", wide=True)
    part = BatchPart(
        blob=BlobKey(1),
        feed=Feed(TENANT, ContentType.EXCHANGE),
        received_at=NOW,
        records=split.records,
        headers=split.headers,
        tables=["cloud.office365.management.exchange"] * len(records),
        missing_outputs=frozenset({"lake"}),
    )
    AuditWriter(directory, app_id="test").append(Batch(1, [part]))


def known(directory: Path, records: list[bytes], tenant_id: TenantId = TENANT) -> set[int]:
    """The places that the lake knows."""
    split = split_blob(b"[" + b",".join(records) + b"]", wide=False)
    return LakeWitness(directory).places_known(tenant_id, split.records, split.headers)


def test_a_record_is_known_whatever_the_order_of_its_keys(tmp_path: Path) -> None:
    """And one that differs in what makes records the same is not."""
    lake_of(tmp_path, [ONE, WITHOUT_ID, WITHOUT_TIME])

    assert known(tmp_path, [OTHER_OPERATION, OTHER_ORDER, WITHOUT_ID, ONE]) == {1, 2, 3}
    assert known(tmp_path, [WITHOUT_ID.replace(b"Get", b"Set")]) == set()


def test_another_tenants_record_is_another_record(tmp_path: Path) -> None:
    """Ids are made by each tenant's services."""
    lake_of(tmp_path, [ONE])

    assert known(tmp_path, [ONE], TenantId("22222222-2222-2222-2222-222222222222")) == set()


def test_a_record_without_a_time_is_left_to_the_ledger(tmp_path: Path) -> None:
    """It would have to be looked for in the whole lake."""
    lake_of(tmp_path, [WITHOUT_TIME])

    assert known(tmp_path, [WITHOUT_TIME]) == set()


def test_where_there_is_no_lake_nothing_is_known(tmp_path: Path) -> None:
    """Nor is one made."""
    assert known(tmp_path, [ONE]) == set()
    assert list(tmp_path.iterdir()) == []
