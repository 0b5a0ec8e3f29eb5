"""Which configuration a command reads, and what Devo's flags and variables mean."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
import structlog
import typer
from typer.testing import CliRunner

from m365watch.cli.configuration import choose_pair, named_config, read_settings, require_config, state_of
from m365watch.cli.program import app
from m365watch.common.errors import SettingsRefused
from m365watch.config.loader import parse_settings
from m365watch.http.proxies import proxy_for

INPUTS = {
    "office365": {
        "credentials": {
            "client_id": "11111111-1111-1111-1111-111111111111",
            "tenant_id": "22222222-2222-2222-2222-222222222222",
            "client_secret": "not-a-real-one",
        },
        "cloud": {"login_url": "http://127.0.0.1:9", "management_url": "http://127.0.0.1:9"},
    }
}
CONSOLE = {"c": {"type": "console"}}
JOB, COLLECTOR = Path("job.json"), Path("collector.json")
STANDARD = (Path("/nowhere/job.json"), Path("/nowhere/collector.json"))
MINE = Path("mine.yaml")


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own; a command that runs in this process leaves its hook and its lines behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONFIG_FILE", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield
    structlog.reset_defaults()


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("job", "collector", "pair"),
    [
        (JOB, COLLECTOR, (JOB, COLLECTOR)),
        (JOB, None, (JOB, STANDARD[1])),
        (None, COLLECTOR, (STANDARD[0], COLLECTOR)),
    ],
)
def test_the_file_left_out_of_a_pair_is_where_devos_server_has_it(
    job: Path | None, collector: Path | None, pair: tuple[Path, Path]
) -> None:
    """One of the two flags is enough, and stands above the variable."""
    environment = {"CONFIG_FILE": "x.yaml"}

    assert choose_pair(None, job, collector, environment=environment, standard=STANDARD) == pair


def test_a_configuration_of_ones_own_stands_above_what_is_lying_about(tmp_path: Path) -> None:
    """Named, by flag or variable, it is read alone; the server's files only where nothing is named."""
    standard = (write(tmp_path / "job.json", {}), write(tmp_path / "collector.json", {}))

    assert choose_pair(MINE, None, None, environment={}, standard=standard) is None
    assert choose_pair(None, None, None, environment={"CONFIG_FILE": "x"}, standard=standard) is None
    assert choose_pair(None, None, None, environment={}, standard=standard) == standard


def test_two_kinds_of_configuration_are_a_wrong_command_line() -> None:
    """Of two, one would silently win."""
    with pytest.raises(typer.BadParameter):
        choose_pair(MINE, JOB, None, environment={}, standard=STANDARD)


def test_a_bare_name_is_looked_for_in_devos_folder_as_well() -> None:
    """Devo's containers are started with a name alone, and have the file in `config`."""
    assert named_config(Path("c.yaml"), {}) == Path("c.yaml")
    write(Path("config/c.yaml"), {})
    assert named_config(Path("c.yaml"), {}) == Path("config/c.yaml")
    write(Path("c.yaml"), {})
    assert named_config(Path("c.yaml"), {}) == Path("c.yaml")


def test_a_configuration_is_found_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables stand above files, and what is nearer above what is farther."""
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "user")}
    here, user = Path("m365watch.yaml"), tmp_path / "user" / "m365watch" / "m365watch.yaml"
    user.parent.mkdir(parents=True)
    write(user, {})
    assert named_config(None, environment) == user
    write(here, {})
    assert named_config(None, environment) == here
    assert named_config(None, environment | {"CONFIG_FILE": "devo.yaml"}) == Path("devo.yaml")
    named = {"CONFIG_FILE": "devo.yaml", "M365WATCH_CONFIG": "ours.yaml"}
    assert named_config(None, environment | named) == Path("ours.yaml")
    assert named_config(MINE, environment | named) == MINE


def test_without_a_configuration_all_places_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    with pytest.raises(typer.BadParameter) as refused:
        require_config(None)

    for place in (
        "m365watch.yaml",
        f"{tmp_path}/user/m365watch",
        "/etc/m365watch/",
        "--config",
        "CONFIG_FILE",
    ):
        assert place in refused.value.message


def test_the_variable_names_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """`CONFIG_FILE`, as in Devo's containers; mistakes name the file that it means."""
    monkeypatch.setenv("CONFIG_FILE", "c.yaml")
    write(Path("config/c.yaml"), {"inputs": INPUTS, "globals": {"name": "found"}})

    assert read_settings(None, job=None, collector=None).collector_name == "found"

    write(Path("config/c.yaml"), {"inputs": {}})
    with pytest.raises(SettingsRefused, match=r"config/c\.yaml: inputs"):
        read_settings(None, job=None, collector=None)


@pytest.mark.parametrize(
    "spelling",
    ["--job_config_loc {} --collector_config_loc {}", "--job-config-loc {} --collector-config-loc {}"],
)
def test_devos_two_files_are_taken_by_either_spelling_of_their_flags(spelling: str) -> None:
    """Underscores as Devo writes them, hyphens as everything else here; mistakes name file and key."""
    write(JOB, {"inputs": INPUTS})
    write(COLLECTOR, {"job_id": 1, "job_name": "x", "loggers": [{"type": "nothing"}]})
    ended = CliRunner().invoke(app, ["run", *spelling.format(JOB, COLLECTOR).split()])

    assert ended.exit_code == 2
    assert 'collector.json: loggers[0].type: "nothing" (text) is no output' in ended.stderr


def test_a_state_that_is_not_saved_is_gone_at_the_end(tmp_path: Path) -> None:
    """A folder of its own, and a word of warning; the kept state is not touched."""
    kept = parse_settings({"inputs": INPUTS, "outputs": CONSOLE}, path=tmp_path / "c.json", environment={})
    with state_of(kept, no_save_state=True) as settings:
        folder = settings.state_directory
        assert folder.is_dir()
        assert folder != kept.state_directory
        assert any("--no-save-state" in warning for warning in settings.warnings)

    assert not folder.exists()
    with state_of(kept, no_save_state=False) as settings:
        assert settings is kept


@pytest.mark.parametrize("kind", ["lake", "files"])
def test_what_holds_records_needs_its_state(tmp_path: Path, kind: str) -> None:
    """They tell by the state what they hold already; a run without it could undo what the last one wrote."""
    document = {"inputs": INPUTS, "outputs": {"out": {"type": kind}}}
    kept = parse_settings(document, path=tmp_path / "c.json", environment={})

    with pytest.raises(SettingsRefused) as refused, state_of(kept, no_save_state=True):
        pass
    assert refused.value.mistakes == [
        "--no-save-state: outputs.out cannot do without the state; leave the flag out"
    ]


def test_memory_in_the_file_means_the_same_as_the_flag(tmp_path: Path) -> None:
    """Devo's flag and Devo's store are one thing."""
    document = {
        "inputs": INPUTS,
        "globals": {"persistence": {"type": "memory"}},
        "outputs": CONSOLE,
    }
    with state_of(
        parse_settings(document, path=tmp_path / "c.json", environment={}), no_save_state=False
    ) as settings:
        assert settings.state_directory.is_dir()
        assert not any("--no-save-state" in warning for warning in settings.warnings)


def test_validate_and_prod_mode_answer_with_an_exit_code() -> None:
    """1 where a tenant cannot be reached, one line and what to do; nothing is collected."""
    write(Path("c.json"), {"inputs": INPUTS, "outputs": CONSOLE})
    ended = CliRunner().invoke(app, ["run", "-c", "c.json", "--validate", "--prod-mode", "--no-save-state"])

    assert ended.exit_code == 1
    assert "error: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not Path("state").exists()


@pytest.mark.parametrize("command", ["run", "run --once", "run --validate", "audit", "why"])
def test_what_is_no_proxy_is_a_mistake_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Every command that talks to the service says so before it begins, and never repeats the password."""
    inputs = {"office365": {"credentials": INPUTS["office365"]["credentials"], "cloud": "worldwide"}}
    write(tmp_path / "c.json", {"inputs": inputs, "outputs": CONSOLE})
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy-user:p4ss@proxy.example:notaport")
    # What an earlier test of this process found for the same host was kept, and the run would never end.
    proxy_for.cache_clear()

    ended = CliRunner().invoke(app, [*command.split(), "-c", "c.json"])
    told = str(ended.exception) + ended.stderr

    assert "HTTPS_PROXY: what it holds is not a proxy address" in told
    assert "p4ss" not in told


def test_commands_that_only_read_do_not_mind_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` shows how a collector stands, whatever the shell it is called from has in its environment."""
    path = write(tmp_path / "c.json", {"inputs": {"office365": INPUTS["office365"] | {"cloud": "worldwide"}}})
    monkeypatch.setenv("HTTPS_PROXY", "http://[::1")

    assert (
        read_settings(path, job=None, collector=None, for_reading=True).tenants[0].cloud.name == "worldwide"
    )


@pytest.mark.parametrize("command", ["run --once", "audit", "why"])
def test_a_variable_without_certificates_is_a_mistake_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """SSL_CERT_FILE is said to be wrong before the first server is distrusted for it."""
    inputs = {"office365": {"credentials": INPUTS["office365"]["credentials"], "cloud": "worldwide"}}
    write(tmp_path / "c.json", {"inputs": inputs, "outputs": CONSOLE})
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c.json"))

    ended = CliRunner().invoke(app, [*command.split(), "-c", "c.json"])
    told = str(ended.exception) + ended.stderr

    assert f"SSL_CERT_FILE: {tmp_path}/c.json holds no certificate" in told


@pytest.mark.parametrize("globals_", [{}, {"queue_max_size_in_mb": 500}])
def test_a_configuration_may_come_by_a_pipe(tmp_path: Path, globals_: dict[str, int]) -> None:
    """It can be read once: `run --config <(sops -d ...)`, also where it has more than the usual keys."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    text = json.dumps({"globals": globals_, "inputs": INPUTS, "outputs": CONSOLE})
    writer = Thread(target=pipe.write_text, args=(text,), daemon=True)
    writer.start()

    settings = read_settings(pipe, job=None, collector=None)
    writer.join()

    assert [one.tenant_id for one in settings.tenants] == ["22222222-2222-2222-2222-222222222222"]


@pytest.mark.parametrize("globals_", [{}, {"queue_max_size_in_mb": 500}])
def test_relative_paths_of_a_pipe_start_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, globals_: dict[str, int]
) -> None:
    """Beside `/dev/fd/63` nobody may write."""
    monkeypatch.chdir(tmp_path)
    outputs = {"lake": {"type": "lake", "config": {"directory": "lake"}}}
    reading, writing = os.pipe()
    os.write(writing, json.dumps({"globals": globals_, "inputs": INPUTS, "outputs": outputs}).encode())
    os.close(writing)
    try:
        settings = read_settings(Path(f"/dev/fd/{reading}"), job=None, collector=None)
    finally:
        os.close(reading)

    assert settings.state_directory == tmp_path / "state"
    assert settings.lake_directory == tmp_path / "lake"
