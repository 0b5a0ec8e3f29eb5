"""What docs/lake.md says is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.alert_table import AlertShelf
from m365watch.detection.store.lake_outbox import Due, day_of
from m365watch.lake.schema import ENTITY, TABLES, TableShape
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import TENANT, make_batch, make_part
from m365watch_testing.clock import FakeClock

PAGE = (Path(__file__).parents[2] / "docs" / "lake.md").read_text()
SQL = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
TYPES = {
    pa.date32(): "date",
    pa.timestamp("us", tz="UTC"): "timestamp",
    pa.int32(): "integer",
    pa.string(): "string",
    pa.binary(): "binary",
    pa.bool_(): "boolean",
    pa.int64(): "long",
    pa.list_(pa.string()): "list of strings",
    pa.list_(ENTITY): "list of pairs",
}

ALERT = Alert(
    id=AlertId("1" * 32),
    rule_id="r",
    title="Mail is hidden by a rule",
    severity=Severity.HIGH,
    tenant=TENANT,
    group=("u",),
    entities=(("user", "u"),),
    first_at_ms=1_794_906_001_000,
    last_at_ms=1_794_906_001_000,
    count=1,
    evidence=("2",),
    explanation="u made a rule",
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with one record for each example."""
    directory = tmp_path_factory.mktemp("docs") / "lake"
    records = [
        (
            b'{"CreationTime":"2026-11-17T09:00:00","Id":"1","Operation":"UserLoginFailed",'
            b'"Workload":"AzureActiveDirectory","UserId":"u","ClientIP":"192.0.2.17"}'
        ),
        (
            b'{"CreationTime":"2026-11-17T09:00:01","Id":"2","Operation":"New-InboxRule",'
            b'"Workload":"Exchange","UserId":"u","Parameters":[{"Name":"Name","Value":"."}]}'
        ),
    ]
    AuditWriter(directory, app_id="test").append(make_batch(1, [make_part(records, outputs=["lake"])]))
    shelf = AlertShelf("lake", directory, writer="test", clock=FakeClock(), takes=lambda _: True)
    shelf.put([Due(1, ALERT.id, day_of(ALERT.first_at_ms), KeptAlert(ALERT, shown=True))], number=1)
    return directory


@pytest.mark.parametrize("shape", TABLES, ids=lambda shape: shape.name)
def test_the_columns_are_those_of_the_schema(shape: TableShape) -> None:
    """The page's tables are those of the schema, line by line."""
    lines = [f"| `{column.name}` | {TYPES[column.type]} | {column.says} |" for column in shape.columns]

    section = PAGE.partition(f"## Table `{shape.name}`")[2].partition("\n## ")[0]
    assert (
        section.partition("<!-- columns -->")[2].partition("<!-- end -->")[0].strip().splitlines()[2:]
        == lines
    )


@pytest.mark.parametrize("sql", SQL)
def test_each_example_runs_and_finds_something(lake: Path, sql: str) -> None:
    """Every SQL block of the page is run as it stands."""
    answer = LakeReader(lake).query(sql)

    assert answer.rows


@pytest.mark.parametrize("code", PYTHON)
def test_the_lines_of_python_run(lake: Path, code: str) -> None:
    """The block works beside a directory `lake`."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=lake.parent,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout == "2\n"


def test_the_page_has_examples() -> None:
    """A change of the page's form must not leave nothing to test."""
    assert (len(SQL) >= 5, len(PYTHON)) == (True, 1)
