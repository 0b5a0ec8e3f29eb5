"""The Helm chart: what it renders is one careful collector a worker, whose configuration is right."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from promises import guarantee

from helm_program import need_helm
from m365watch import __version__
from m365watch.config.loader import load_settings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/m365watch"
IDS = {
    "M365_TENANT_ID": "1" * 8 + "-1111-4111-8111-" + "1" * 12,
    "M365_CLIENT_ID": "2" * 8 + "-2222-4222-8222-" + "2" * 12,
}
ONE: dict[str, Any] = {
    "workers": {
        "main": {
            "config": {
                "inputs": {
                    "office365": {
                        "credentials": {
                            "tenant_id": "${M365_TENANT_ID}",
                            "client_id": "${M365_CLIENT_ID}",
                            "client_secret_file": "/run/secrets/m365watch/client_secret",
                        }
                    }
                }
            },
            "env": [{"name": name, "value": value} for name, value in IDS.items()],
        }
    }
}
TWO: dict[str, Any] = {
    "workers": {
        **ONE["workers"],
        "second": {
            "config": {
                "inputs": {
                    "b": {
                        "type": "office365",
                        "credentials": {
                            "tenant_id": IDS["M365_TENANT_ID"],
                            "client_id": IDS["M365_CLIENT_ID"],
                            "federated_token_file": "/var/run/token",
                        },
                    }
                },
                "outputs": {"elsewhere": {"type": "console", "config": {}}},
            },
            "storage": "1Gi",
            "serviceAccountName": "federated",
            "podLabels": {"azure.workload.identity/use": "true"},
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
        },
    }
}
VALUES = [json.dumps(ONE), json.dumps(TWO)]


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    return need_helm(tmp_path_factory.mktemp("helm"))


@cache
def rendered(helm: Path, values: str) -> list[dict[str, Any]]:
    """The documents that a cluster would be given."""
    given = helm.with_name("values.yaml")
    given.write_text(values)
    done = subprocess.run(
        [helm, "template", "try", CHART, "--values", given],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(kind: str, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those documents."""
    return [one for one in documents if one["kind"] == kind]


@pytest.mark.slow
def test_helm_finds_no_fault_with_the_chart(helm: Path) -> None:
    """`helm lint`, warnings included."""
    done = subprocess.run(
        [helm, "lint", "--strict", CHART], check=False, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


@pytest.mark.parametrize("values", VALUES)
def test_each_worker_is_one_pod_with_a_volume_of_its_own(helm: Path, values: str) -> None:
    """A ledger has one holder: two pods of one worker would be one too many."""
    documents = rendered(helm, values)
    workers = of_kind("StatefulSet", documents)

    assert len(workers) == len(json.loads(values)["workers"])
    for worker in workers:
        name, spec = worker["metadata"]["name"], worker["spec"]
        assert spec["replicas"] == 1
        assert [one["metadata"]["name"] for one in spec["volumeClaimTemplates"]] == ["kept"]
        assert spec["serviceName"] in [one["metadata"]["name"] for one in of_kind("Service", documents)]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        assert spec["selector"]["matchLabels"]["app.kubernetes.io/component"] == name.removeprefix("try-")


@guarantee(27)
@pytest.mark.parametrize("values", VALUES)
def test_a_pod_has_no_rights_that_it_does_not_need(helm: Path, values: str) -> None:
    """Not root, nothing to write but its volume and /tmp, no capabilities, no token unasked."""
    for worker in of_kind("StatefulSet", rendered(helm, values)):
        pod = worker["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is ("serviceAccountName" in pod)
        writable = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
        assert writable == {"/var/lib/m365watch", "/tmp"}
        assert container["livenessProbe"]["exec"]["command"][:3] == ["m365watch", "status", "--alive"]


@pytest.mark.slow
@pytest.mark.parametrize("values", VALUES)
def test_the_configuration_of_each_worker_is_right(helm: Path, values: str, tmp_path: Path) -> None:
    """What is not said of state and lake lies in the volume; a named output takes the lake's place."""
    for one in of_kind("ConfigMap", rendered(helm, values)):
        path = tmp_path / f"{one['metadata']['name']}.yaml"
        path.write_text(one["data"]["config.yaml"])
        settings = load_settings(path, environment=IDS, for_reading=True)

        assert settings.state_directory == Path("/var/lib/m365watch/state")
        names = [output.name for output in settings.outputs]
        assert names == (["lake"] if path.stem == "try-main" else ["elsewhere"])


def test_the_page_s_example_is_the_workers_that_it_names_and_no_more(helm: Path, tmp_path: Path) -> None:
    """Helm joins the values with the chart's own: one worker there would be one that nobody asked for."""
    page = (ROOT / "docs/deploying.md").read_text()
    [example] = re.findall(r"```yaml\n(image: .*?)```", page, re.DOTALL)

    documents = rendered(helm, example)

    workers = of_kind("StatefulSet", documents)
    assert [one["metadata"]["name"] for one in workers] == ["try-america", "try-europe"]
    for worker in workers:
        [container] = worker["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"registry.example/m365watch:{__version__}"
    [europe] = [one for one in of_kind("ConfigMap", documents) if one["metadata"]["name"] == "try-europe"]
    file = tmp_path / "config.yaml"
    file.write_text(europe["data"]["config.yaml"])
    assert len(load_settings(file, environment={}, for_reading=True).tenants) == 1


def test_a_digest_wins_over_a_tag(helm: Path) -> None:
    """What runs is what was looked at, wherever the tag points by now."""
    digest = f"sha256:{'a' * 64}"
    values = ONE | {"image": {"repository": "here/m365watch", "tag": "old", "digest": digest}}
    [worker] = of_kind("StatefulSet", rendered(helm, json.dumps(values)))
    [container] = worker["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"here/m365watch@{digest}"


def test_a_chart_without_workers_is_refused_with_what_is_missing(helm: Path) -> None:
    """An installation of nothing would look like one that went well."""
    done = subprocess.run(
        [helm, "template", "try", CHART], check=False, capture_output=True, text=True, timeout=60
    )

    assert done.returncode != 0
    assert "workers names no collector" in done.stderr


def test_long_names_that_begin_alike_stay_apart(helm: Path) -> None:
    """Kubernetes allows a StatefulSet 52 characters: what is cut off stands for itself as a short hash."""
    long = "a-customer-whose-name-is-as-long-as-a-name-can-be-in-"
    config = ONE["workers"]["main"]["config"]
    values = {"workers": {long + end: {"config": config} for end in ("east", "west")}}

    names = [one["metadata"]["name"] for one in of_kind("StatefulSet", rendered(helm, json.dumps(values)))]

    assert len(set(names)) == 2
    assert all(len(name) <= 52 for name in names)


def test_the_chart_is_of_the_version_that_it_installs() -> None:
    """Its image's tag is the chart's appVersion."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_a_worker_without_a_configuration_is_refused_by_name(helm: Path) -> None:
    """Before anything reaches the cluster."""
    command: list[str | Path] = [helm, "template", "try", CHART, "--set", "workers.second.storage=1Gi"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode != 0
    assert "workers.second.config is the worker's configuration" in done.stderr
