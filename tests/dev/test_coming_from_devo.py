"""What docs/tutorials/coming-from-devo.md says is so: files load, commands run, queries find something."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from made_outputs import lake_in
from patience import PATIENCE_S
from promises import guarantee
from shifted import DAY
from typer.main import get_command

from m365watch.cli.program import app
from m365watch.common.clock import SystemClock, system_random
from m365watch.common.errors import SettingsRefused
from m365watch.common.model import Service
from m365watch.config.loader import load_server_settings, load_settings, parse_settings
from m365watch.config.models.settings import Settings
from m365watch.config.models.wire_values import TABLE_PREFIX
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.outputs.devo.spec import DevoSection
from m365watch.outputs.devo.tags import KNOWN_WORKLOADS
from m365watch.runtime.collector import Collector
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_testing.batches import make_batch, make_part
from m365watch_testing.certificates import Authority
from m365watch_testing.devo_server import DevoServer, server_tls

PAGE = (Path(__file__).parents[2] / "docs" / "tutorials" / "coming-from-devo.md").read_text(encoding="utf-8")
ENVIRONMENT = {"M365_SECRET": "made up"}
OLD_STATE = "7d793037a0760186574b0282f2f435e7"
"""The kind of name that the old collector's files of state have."""
LINE = re.compile(rb"<14>\S+ \S+ \S+ (\S+): (\{.*\})")
COLUMNS = {
    "cloud": {"eventdate", "hostname", "Id", "Operation", "UserId", "Workload"},
    "devo": {"eventdate", "collector_name", "service_name", "input_name", "level2", "msg"},
}
"""Some that Devo's tables have. Source: Devo's own queries on `cloud.office365.management` and
`devo.collectors.out`."""
WORDS = {"from", "where", "group", "every", "by", "select", "as", "count", "copies", "records", "1h"}


def blocks(kind: str) -> list[str]:
    """The fenced blocks of one kind, in order."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def document(name: str) -> Any:
    """The YAML block whose first line names the file or the place in it."""
    [found] = [block for block in blocks("yaml") if block.startswith(f"# {name}\n")]
    return yaml.safe_load(found)


CONFIG = document("config/config.yaml")
CHECK = document("sections of config/check.yaml")
STARTS = document("services of config/config.yaml")
LINQ = blocks("linq")
SQL = blocks("sql")


class Place:
    """Devo's folders, with certificates of an authority of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("config", "certs", "state"):
            (folder / name).mkdir()
        (folder / "state" / OLD_STATE).write_bytes(b"the old collector's")
        self.authority = Authority(folder)
        client = self.authority.issue("acme")
        for name, file in (
            ("chain.crt", self.authority.chain),
            ("acme.crt", client.cert),
            ("acme.key", client.key),
        ):
            (folder / "certs" / name).write_bytes(file.read_bytes())
            (folder / "certs" / name).chmod(0o600)

    def load(self, name: str, content: object) -> Settings:
        """The settings in `content`, written to a file of that name."""
        return load_settings(self.write(name, content), environment=ENVIRONMENT)

    def write(self, name: str, content: object) -> Path:
        """The file of that name in Devo's folder, with `content`."""
        file = self.folder / "config" / name
        file.write_text(json.dumps(content))
        file.chmod(0o600)
        return file


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_page_has_blocks_of_each_kind() -> None:
    """A change of the page's form must not leave nothing to test."""
    assert (len(LINQ) >= 4, len(SQL) >= 1, len(blocks("json")), len(blocks("sh")) >= 3) == (
        True,
        True,
        2,
        True,
    )
    assert len(PAGE.splitlines()) < 240


# The same file.


@guarantee(29)
def test_devos_file_is_taken_as_it_is(place: Place) -> None:
    """Without a warning; certificates lie in Devo's folder, the state apart from the old collector's."""
    settings = place.load("config.yaml", CONFIG)

    assert settings.warnings == ()
    assert settings.state_directory == place.folder / "config" / "state"
    assert [service.service for tenant in settings.tenants for service in tenant.services] == [
        Service.AZURE_ACTIVE_DIRECTORY,
        Service.EXCHANGE,
        Service.SHAREPOINT,
        Service.GENERAL_AUDIT,
        Service.DLP,
    ]
    [output] = settings.outputs
    assert isinstance(output, DevoSection)
    assert output.config.tls.cert == place.folder / "certs" / "acme.crt"
    assert output.config.tls.verify_hostname


def test_the_two_files_of_a_collector_server_are_taken_as_they_are(place: Place) -> None:
    """They are another spelling of the same configuration."""
    files = [place.folder / "config" / name for name in ("job_config.json", "collector_config.json")]
    for file, text in zip(files, blocks("json"), strict=True):
        file.write_text(text)
        file.chmod(0o600)
    settings = load_server_settings(job=files[0], collector=files[1], environment=ENVIRONMENT)

    assert (settings.warnings, settings.job_id, settings.collector_name) == ((), "12345", "office365")
    assert settings.state_directory == Path("/var/lib/m365watch")
    assert [type(output) for output in settings.outputs] == [DevoSection]


def test_a_store_in_redis_is_refused_with_what_to_give(place: Place) -> None:
    """The one change that many collector servers need."""
    redis = {"persistence": {"type": "redis", "config": {"host": "redis"}}}

    with pytest.raises(SettingsRefused, match="give filesystem"):
        place.load("config.yaml", CONFIG | {"globals": redis})


@pytest.mark.parametrize(
    "key",
    re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`(?:queue_max|multip).*?) \|", PAGE, re.MULTILINE))),
)
def test_what_has_no_effect_is_a_warning(place: Place, key: str) -> None:
    """Each key that the page says so of is taken, and named."""
    value = 1 if key.startswith("queue") else True
    changed = json.loads(json.dumps(CONFIG))
    section = changed["outputs"]["devo_1"]["config"] if key == "generate_metrics" else changed["globals"]
    section[key] = value

    [warning] = place.load("config.yaml", changed).warnings

    assert key in warning


def test_an_option_of_an_output_counts_before_that_of_globals(place: Place) -> None:
    """And `global_overrides` count before `globals`."""
    key = "compression_level"
    changed = json.loads(json.dumps(CONFIG))
    changed["globals"][f"devo_sender_{key}"] = 2
    levels = [level_in(place.load("config.yaml", changed))]
    changed["global_overrides"] = {f"devo_sender_{key}": 3}
    levels.append(level_in(place.load("config.yaml", changed)))
    changed["outputs"]["devo_1"]["config"][key] = 4
    levels.append(level_in(place.load("config.yaml", changed)))

    assert levels == [2, 3, 4]


def level_in(settings: Settings) -> int:
    """How hard the one output compresses."""
    [output] = settings.outputs
    assert isinstance(output, DevoSection)
    return output.config.compression_level


def test_the_fallback_is_the_one_that_the_page_names(place: Place) -> None:
    """It is where records without a table go."""
    [output] = place.load("config.yaml", CONFIG).outputs

    assert isinstance(output, DevoSection)
    assert f"`{output.config.fallback_tag}` (`fallback_tag`)" in PAGE


# Files and commands of the way over.


def test_the_file_to_check_with_writes_a_lake_and_nothing_else(place: Place) -> None:
    """Its state and its lake lie beside the old collector's, and it takes half of the requests."""
    [limit] = re.findall(r"`requests_limits: (\[.*?\])`", PAGE)
    given = {"office365": CONFIG["inputs"]["office365"] | {"requests_limits": yaml.safe_load(limit)}}
    settings = place.load("check.yaml", CHECK | {"inputs": given})

    assert settings.warnings == ()
    assert settings.outputs == (lake_in(place.folder / "m365watch-lake"),)
    assert settings.state_directory == place.folder / "m365watch-state"
    assert [tenant.requests_per_minute for tenant in settings.tenants] == [1_000]


def test_the_services_of_the_cut_over_begin_where_the_page_says(place: Place) -> None:
    """They are keys that the file takes in place of its own services."""
    [tag] = re.findall(r"`override_tag: (.*?)`", PAGE)
    given = {name: options | {"override_tag": tag} for name, options in STARTS.items()}
    settings = place.load(
        "config.yaml", CONFIG | {"inputs": {"office365": CONFIG["inputs"]["office365"] | {"services": given}}}
    )

    [tenant] = settings.tenants
    assert {f"{service.start_at:%Y-%m-%dT%H:%M:%SZ}" for service in tenant.services} == {
        options["start_time_in_utc"] for options in STARTS.values()
    }
    assert f"`{tag.replace('{workload}', 'exchange')}`" in PAGE


async def shell(block: str, folder: Path, environment: Mapping[str, str]) -> str:
    """What the block prints, whose every command has to end well; `m365watch` in it is this one."""
    command = folder / "m365watch"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m m365watch "$@"\n')
    command.chmod(0o700)
    ended = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-ec", block),
        cwd=folder,
        env={"PATH": f"{folder}:/usr/bin:/bin", "LC_ALL": "C", **DAY, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        printed, told = await ended.communicate()
    assert ended.returncode == 0, told.decode()
    return printed.decode()


@pytest.mark.parametrize("flag", re.findall(r"`(--\w+)`", PAGE))
def test_every_flag_of_the_page_is_one_of_run(flag: str) -> None:
    """Devo's spellings are taken as they are."""
    commands: Mapping[str, click.Command] = getattr(get_command(app), "commands", {})

    assert flag in {option for parameter in commands["run"].params for option in parameter.opts}


# Queries.


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three mails, one of which Devo lacks."""
    folder = tmp_path_factory.mktemp("lake") / "m365watch-lake"
    record = '{"CreationTime":"2026-11-17T09:00:00","Id":"%s","Operation":"Send","Workload":"Exchange"}'
    records = [(record % number).encode() for number in ("id-1", "id-2", "id-3")]
    AuditWriter(folder, app_id="test").append(make_batch(1, [make_part(records, outputs=["lake"])]))
    return folder


@pytest.mark.parametrize("sql", SQL)
def test_each_query_of_the_lake_finds_something(lake: Path, sql: str) -> None:
    """It is run as it stands."""
    assert LakeReader(lake).query(sql).rows


@pytest.mark.parametrize("linq", LINQ)
def test_each_query_of_devo_names_tables_and_columns_that_are_there(linq: str) -> None:
    """LINQ runs at Devo only; what can be told here is whether it asks for something that exists."""
    [table] = re.findall(r"^from (\S+)", linq)
    unquoted = re.sub(r'"[^"]*"', "", linq.removeprefix(f"from {table}"))
    columns = set(re.findall(r"\b\w+\b", unquoted)) - WORDS

    assert table in {"cloud.office365.management", "devo.collectors.out"} or (
        table.removeprefix(TABLE_PREFIX) in KNOWN_WORKLOADS
    )
    assert columns <= COLUMNS[table.partition(".")[0]]


@guarantee(29)
@pytest.mark.slow
def test_the_comparison_of_ids_names_what_each_side_lacks(lake: Path) -> None:
    """The block is run by a shell, on an answer of Devo's with one Id more and one Id fewer."""
    [block] = [block for block in blocks("sh") if "comm " in block]
    folder = lake.parent
    (folder / "config").mkdir()
    file = folder / "config" / "check.yaml"
    file.write_text(json.dumps(CHECK | {"inputs": CONFIG["inputs"]}))
    (folder / "devo.csv").write_text('Id,copies\n"id-1",1\n"id-2",2\n"id-9",1\n')

    printed = asyncio.run(shell(block, folder, ENVIRONMENT))

    assert printed == "id-9\nid-3\n"


# The way over, on a simulated tenant.


@guarantee(29)
@pytest.mark.slow
def test_over_to_m365watch_as_the_page_says(place: Place) -> None:
    """Devo, added to the lake, gets what is fetched from then on; the same file alone gets all."""

    async def main() -> tuple[list[bytes], list[bytes], list[bytes], list[bytes]]:
        settings = SimulationSettings(seed=3, days=2, records_per_day=80, live=False)
        async with simulator_running(settings, clock=SystemClock()) as running:
            with DevoServer(server_tls(place.authority)) as devo:
                await collect(place, running, CHECK, services={"exchange": {}})
                before = records_in_lake(place.folder / "m365watch-lake")
                both = {"outputs": CHECK["outputs"] | outputs_to(devo)}
                await collect(place, running, CHECK | both)
                added = records_in(devo)
            with DevoServer(server_tls(place.authority)) as devo:
                await collect(place, running, CONFIG | {"outputs": outputs_to(devo)})
                alone = records_in(devo)
            return before, added, alone, running.tenants[0].truth().records()

    before, added, alone, served = asyncio.run(main())

    everything = Counter(map(canonical, served))
    assert 0 < len(before) < everything.total()
    assert Counter(map(without_added, added)) == everything - Counter(map(canonical, before))
    assert Counter(map(without_added, alone)) == everything
    assert (place.folder / "config" / "state" / LEDGER_FILE).exists()
    assert [file.name for file in (place.folder / "state").iterdir()] == [OLD_STATE]


def outputs_to(devo: DevoServer) -> dict[str, Any]:
    """The page's output, sent to `devo` and without notices, with a shorter retention."""
    config = CONFIG["outputs"]["devo_1"]["config"]
    changes = {"address": "localhost", "port": devo.port, "collectors_out": False, "sending_timeout": 1}
    return {"devo_1": {"type": "devo_platform", "config": config | changes | {"retention_secs": 2}}}


async def collect(
    place: Place,
    running: RunningSimulator,
    content: Mapping[str, Any],
    *,
    services: Mapping[str, Any] | None = None,
) -> None:
    """One run that has to end well, of the tenant that `running` serves."""
    simulated = running.configuration(services=services)["inputs"]["office365"]
    settings = parse_settings(
        dict(content) | {"inputs": {"office365": simulated}},
        path=place.folder / "config" / "config.yaml",
        environment={},
    )
    collector = Collector(settings, clock=SystemClock(), random=system_random())
    outcome = await collector.run(once=True, stop=asyncio.Event())
    assert (outcome.exit_code, outcome.problems) == (0, ())


def records_in_lake(lake: Path) -> list[bytes]:
    """The records that a lake holds."""
    return [str(row[0]).encode() for row in LakeReader(lake).query("SELECT raw FROM audit").rows]


def records_in(devo: DevoServer) -> list[bytes]:
    """The records that came, all of them in tables that Devo has."""
    devo.wait_until_over()
    lines = [line for line in map(LINE.fullmatch, devo.lines) if line]
    assert len(lines) == len(devo.lines)
    tables = {line[1].decode() for line in lines}
    assert {table.removeprefix(TABLE_PREFIX) for table in tables} <= {
        *KNOWN_WORKLOADS,
        "cloud.office365.other",
    }
    return [line[2] for line in lines]


def canonical(record: bytes) -> str:
    """The record's JSON in one spelling."""
    return json.dumps(json.loads(record), sort_keys=True)


def without_added(record: bytes) -> str:
    """The same, without what is added for Devo."""
    fields = json.loads(record)
    del fields["@devo_pulling_id"]
    return json.dumps(fields, sort_keys=True)
