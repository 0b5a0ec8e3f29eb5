from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import typer
from patience import PATIENCE_S
from typer.testing import CliRunner

from m365watch.auth.certificates.certificate import thumbprints_of
from m365watch.auth.credentials.client_certificate import KeyPair, claims_for, sign
from m365watch.auth.factory import ASSERTION_TYPE
from m365watch.cli.simulate import simulate
from m365watch.common.clock import SystemClock
from m365watch.common.errors import NeedsOperator
from m365watch.config.loader import parse_settings
from m365watch_simulator.service.identities import read_certificate
from m365watch_simulator.service.scenario import scenario_names
from m365watch_testing.applications import ApplicationCertificate

START = "from m365watch.cli.simulate import simulate; import typer; typer.run(simulate)"
RUNNER = CliRunner()

Simulate = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def simulated() -> Iterator[Simulate]:
    """Starts the command in a process of its own, which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", START, "--port", "0", "--records-per-day", "200", *options]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for running in started:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(simulated: Simulate, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C: exit code 0."""
    running = simulated("--json")
    first_document(running)
    running.send_signal(number)
    assert running.wait(10) == 0


def test_it_says_where_it_is_and_how_to_collect_from_it(simulated: Simulate, tmp_path: Path) -> None:
    """URL, tenant, credentials and the command; the configuration is its owner's alone."""
    file = tmp_path / "my simulator.json"
    running = simulated("--json", "--tenants", "2", "--write-config", str(file))
    document = first_document(running)
    configuration = json.loads(file.read_text())
    with urllib.request.urlopen(f"{document['url']}/simulator/report") as reply:
        assert json.load(reply)["violations"] == []
    first, second = document["tenants"]
    assert set(first) == {"tenant_id", "client_id", "client_secret"}
    assert configuration["inputs"]["office365"]["credentials"] == first
    assert configuration["inputs"]["office365_2"]["credentials"] == second
    assert document["command"] == f"m365watch run --config '{file}'"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_where_it_lets_itself_be_answered_the_configuration_can(simulated: Simulate, tmp_path: Path) -> None:
    """The scenario for responses needs no editing: the application stands in the file already."""
    file = tmp_path / "try.json"
    document = first_document(simulated("--json", "--scenario", "may-respond", "--write-config", str(file)))
    [tenant] = document["tenants"]
    response = parse_settings(json.loads(file.read_text()), path=file, environment={}).detections.responder

    assert response is not None
    assert response.client_id == tenant["client_id"]


def test_it_takes_a_certificate_and_gives_a_federated_token(simulated: Simulate, tmp_path: Path) -> None:
    """The two ways without a secret, tried by whoever follows a guide."""
    own = ApplicationCertificate(SystemClock().now() - timedelta(days=1))
    (tmp_path / "cert.pem").write_bytes(own.pem)
    token = tmp_path / "token"
    document = first_document(
        simulated("--json", "--certificate", str(tmp_path / "cert.pem"), "--federated-token", str(token))
    )
    [tenant] = document["tenants"]
    url = f"{document['url']}/{tenant['tenant_id']}/oauth2/v2.0/token"
    pair = KeyPair(own.certificate, own.key, thumbprints_of(own.certificate))
    signed = sign(pair, claims_for(tenant["client_id"], url, SystemClock().now()), is_v2=True)
    statuses = []
    for assertion in (signed, token.read_text().strip()):
        form = {
            "grant_type": "client_credentials",
            "client_id": tenant["client_id"],
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
            "scope": f"{document['url']}/.default",
        }
        with urllib.request.urlopen(url, data=urlencode(form).encode()) as reply:
            statuses.append(reply.status)

    assert statuses == [200, 200]
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    """Before anything is served."""
    (tmp_path / "cert.pem").write_text("nothing")
    with pytest.raises(NeedsOperator, match="holds no certificate in PEM"):
        read_certificate(tmp_path / "cert.pem")


def test_it_speaks_to_a_person(simulated: Simulate) -> None:
    """Without --json: lines, and a hint where no configuration was asked for."""
    running = simulated()
    assert running.stdout is not None
    lines = [running.stdout.readline() for _ in range(4)]
    running.terminate()
    _, errors = running.communicate(timeout=PATIENCE_S)
    assert lines[0].startswith("simulated tenant at http://127.0.0.1:")
    assert [line.split()[0] for line in lines[1:]] == ["tenant_id", "client_id", "client_secret"]
    assert "hint: --write-config" in errors


@pytest.mark.slow
def test_it_leaves_the_truth_behind(simulated: Simulate, tmp_path: Path) -> None:
    """--truth: the records served and the attacks in them, as NDJSON."""
    running = simulated("--json", "--truth", str(tmp_path / "truth"))
    first_document(running)
    running.terminate()
    assert running.wait(PATIENCE_S) == 0
    records = (tmp_path / "truth" / "records.ndjson").read_bytes().splitlines()
    attacks = (tmp_path / "truth" / "attacks.ndjson").read_bytes().splitlines()
    assert all("CreationTime" in json.loads(record) for record in records)
    assert all(json.loads(attack) for attack in attacks)
    assert len(records) > 500


def test_a_file_of_records_is_served(simulated: Simulate, tmp_path: Path) -> None:
    """--records: nothing is made."""
    file = tmp_path / "records.ndjson"
    file.write_bytes(b'{"Id":"1"}\n{"Id":"2"}\n')
    document = first_document(simulated("--json", "--records", str(file)))
    with urllib.request.urlopen(f"{document['url']}/simulator/truth") as reply:
        assert sorted(reply.read().splitlines()) == sorted(file.read_bytes().splitlines())


def test_lines_that_are_no_records_are_told_and_served(simulated: Simulate, tmp_path: Path) -> None:
    """Poison may be wanted, and a spoilt export may not: which lines they are is said at the start."""
    file = tmp_path / "records.ndjson"
    odd = [b"not json", b"[1]", b"\xff\xfe", b"[" * 100_000, b"null", b'{"Id":"9"']
    file.write_bytes(b"\n".join([b'{"Id":"1"}', b"", *odd, b'{"Id":"2"}']) + b"\n")
    running = simulated("--json", "--records", str(file))
    document = first_document(running)
    with urllib.request.urlopen(f"{document['url']}/simulator/truth") as reply:
        assert sorted(reply.read().splitlines()) == [b'{"Id":"1"}', b'{"Id":"2"}']
        assert reply.headers["X-Records-Unreadable"] == "6"
    running.terminate()

    warning = running.communicate(timeout=PATIENCE_S)[1].splitlines()[0]
    assert warning.startswith(f"warning: {file}: 6 of 8 lines are no JSON objects (line 3, 4, 5, 6, 7 ...)")


def test_a_file_without_any_line_is_refused(tmp_path: Path) -> None:
    """There would be nothing to collect, and nothing that says why."""
    file = tmp_path / "records.ndjson"
    file.write_bytes(b"\n  \n")
    refused = RUNNER.invoke(command(), ["--records", str(file)])

    assert refused.exit_code == 2
    assert "no line to serve" in refused.output


def test_the_scenarios_are_listed() -> None:
    """--list-scenarios: name, evidence and a sentence, one a line; or JSON."""
    text = RUNNER.invoke(command(), ["--list-scenarios"])
    document = RUNNER.invoke(command(), ["--list-scenarios", "--json"])
    assert [line.split()[0] for line in text.stdout.splitlines()] == scenario_names()
    assert list(json.loads(document.stdout)) == scenario_names()


@pytest.mark.parametrize(
    "options", [["--days", "61"], ["--tenants", "0"], ["--records", "nowhere"], ["--nonsense"]]
)
def test_a_wrong_option_is_refused(options: list[str]) -> None:
    """Exit code 2, before anything is started."""
    assert RUNNER.invoke(command(), options).exit_code == 2


@pytest.mark.parametrize("port", ["70000", "-1"])
def test_a_port_that_cannot_be_is_a_wrong_option_and_no_bug(port: str) -> None:
    """It came as far as the socket, whose OverflowError asked to be reported."""
    refused = RUNNER.invoke(command(), ["--port", port, "--records-per-day", "1"])

    assert refused.exit_code == 2
    assert "--port" in refused.output


def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(simulate)
    return app


def first_document(running: subprocess.Popen[str]) -> dict[str, Any]:
    assert running.stdout is not None
    document: dict[str, Any] = json.loads(running.stdout.readline())
    return document
