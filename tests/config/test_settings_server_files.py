"""The two files of Devo's collector server, read as the one configuration that they stand for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m365watch.common.errors import SettingsRefused
from m365watch.config.loader import load_server_settings
from m365watch.config.models.settings import Settings
from m365watch.outputs.devo.spec import DevoSection
from m365watch.outputs.syslog.spec import SyslogSection
from settings_documents import Document, filled_in, secret_of

CERTIFICATE = "-----BEGIN CERTIFICATE-----\n"
LOGGER: Document = {
    "type": "devo_platform",
    "config": {
        "url": "collector-us.devo.io",
        "port": 443,
        "chain_loc": "chain.crt",
        "cert_loc": "me.crt",
        "key_loc": "me.key",
    },
}
COLLECTOR = {
    "job_id": 1234,
    "job_name": "office365.acme",
    "debug": False,
    "state_store": {"type": "filesystem", "config": {"dir": "kept"}},
    "loggers": [LOGGER, {"type": "console"}, {"type": "console"}],
}


class Server:
    """The folders of a collector server, with what they hold."""

    def __init__(self, folder: Path) -> None:
        self.job = folder / "job" / "job_config.json"
        self.collector = folder / "collector" / "collector_config.json"
        for path in (self.job, self.collector):
            path.parent.mkdir()
        for name, text in (("chain.crt", CERTIFICATE), ("me.crt", CERTIFICATE)):
            (self.collector.parent / name).write_text(text)
        (self.collector.parent / "me.key").write_text("-----BEGIN RSA PRIVATE KEY-----\n")
        (self.collector.parent / "me.key").chmod(0o600)

    def load(self, job: object, collector: object = COLLECTOR) -> Settings:
        for path, document in ((self.job, job), (self.collector, collector)):
            path.write_text(json.dumps(document))
            path.chmod(0o600)
        return load_server_settings(job=self.job, collector=self.collector, environment={})

    def mistakes(self, job: object, collector: object = COLLECTOR) -> list[str]:
        with pytest.raises(SettingsRefused) as refused:
            self.load(job, collector)
        return refused.value.mistakes


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def with_changes(**changes: object) -> Document:
    return COLLECTOR | changes


def test_both_files_make_one_configuration(server: Server) -> None:
    """Inputs from the job, everything else from the collector; outputs are named as Devo names them."""
    settings = server.load(filled_in() | {"global_overrides": {"debug": True}})

    assert (settings.collector_name, settings.job_id, settings.debug) == ("office365_acme", "1234", True)
    assert settings.state_directory == server.collector.parent / "kept"
    assert [tenant.input_name for tenant in settings.tenants] == ["office365"]
    assert [output.name for output in settings.outputs] == ["devo_platform_0", "console_0", "console_1"]
    assert isinstance(settings.outputs[0], DevoSection)
    assert settings.outputs[0].config.tls.key == server.collector.parent / "me.key"
    assert settings.warnings == ("collector_config.json: job_name: is used as office365_acme",)


def test_a_job_without_the_key_inputs_is_inputs(server: Server) -> None:
    """Devo's collector takes the whole file for them."""
    settings = server.load(filled_in()["inputs"], with_changes(job_name="x"))

    assert [tenant.input_name for tenant in settings.tenants] == ["office365"]


def test_outputs_may_have_names(server: Server) -> None:
    """Devo's collector takes an object of loggers as it is."""
    relay = {"type": "in_house_relay", "config": {"location": "10.0.0.1", "port": 13_000}}
    settings = server.load(filled_in(), with_changes(loggers={"a": relay, "b": {"type": "stdout"}}))

    assert [output.name for output in settings.outputs] == ["a", "b"]
    assert isinstance(settings.outputs[0], SyslogSection)
    assert (settings.outputs[1].name, settings.outputs[1].type) == ("b", "stdout")


def test_a_secret_file_is_beside_the_file_that_names_it(server: Server) -> None:
    """The job's folder for inputs, the collector's for outputs."""
    secret = server.job.parent / "secret"
    secret.write_text("found")
    secret.chmod(0o600)
    job = filled_in()
    credentials = job["inputs"]["office365"]["credentials"]
    del credentials["client_secret"]
    credentials["client_secret_file"] = "secret"

    assert secret_of(server.load(job).tenants[0]) == "found"


def test_a_mistake_names_its_file_and_its_key_there(server: Server) -> None:
    """Nobody has to guess which of the two files is meant, or what its key is called."""
    job = filled_in(id="<id>") | {"global_overrides": {"debug": "maybe"}}
    logger = {"type": "devo_platform", "config": LOGGER["config"] | {"key_loc": "gone.key", "port": "x"}}
    found = server.mistakes(
        job,
        with_changes(
            job_name="", state_store={"type": "redis", "config": {}}, loggers=[logger, {"type": "?"}]
        ),
    )

    assert [line.partition(" (text)")[0] for line in found] == [
        'collector_config.json: job_name: ""',
        'collector_config.json: loggers[0].config.key_loc: "gone.key"',
        'collector_config.json: loggers[0].config.port: "x"',
        'collector_config.json: loggers[1].type: "?"',
        'collector_config.json: state_store.type: "redis"',
        'job_config.json: global_overrides.debug: "maybe"',
        'job_config.json: inputs.office365.id: "<id>"',
    ]


def test_what_the_server_adds_is_ignored_with_a_warning(server: Server) -> None:
    """The files are written by Devo's server, not by the customer, who could not mend them."""
    job = filled_in(persistence={"type": "memory"}) | {"flavour": 1}
    settings = server.load(job, with_changes(job_name="x", owner="acme"))

    assert settings.keeps_state
    assert set(settings.warnings) == {
        "job_config.json: inputs.office365.persistence: is ignored; state_store says where the state is",
        "job_config.json: flavour: is not a key that this collector knows here, and was ignored",
        "collector_config.json: owner: is not a key that this collector knows here, and was ignored",
    }


@pytest.mark.parametrize("text", ["[]", "5", '"x"'])
def test_a_file_that_holds_no_object_is_refused_by_name(server: Server, text: str) -> None:
    """Each of the two is looked at by itself."""
    server.job.write_text(json.dumps(filled_in()))
    server.collector.write_text(text)
    with pytest.raises(SettingsRefused, match=r"collector_config\.json: holds") as refused:
        load_server_settings(job=server.job, collector=server.collector, environment={})

    assert refused.value.mistakes[0].endswith("; give an object")


def test_a_file_that_is_not_there_is_refused_by_name(server: Server) -> None:
    """The most usual mistake of all."""
    with pytest.raises(SettingsRefused, match=r"job_config\.json: there is") as refused:
        load_server_settings(job=server.job, collector=server.collector, environment={})

    assert refused.value.mistakes == ["there is no such file"]
