"""What docs/outputs.md shows can be used, and its names are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from m365watch.config.loader import parse_settings
from m365watch.outputs.devo.tags import KNOWN_WORKLOADS
from m365watch.pipeline.disk_queue import QUEUES_FOLDER
from m365watch.registry.output_specs import OUTPUTS
from m365watch_testing.certificates import Authority

PAGE = (Path(__file__).parents[2] / "docs" / "outputs.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
ID = "11111111-2222-4333-8444-555555555555"
INPUT = {"credentials": {"tenant_id": ID, "client_id": ID, "client_secret": "${SECRET}"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration's folder, with every certificate that the page names."""
    folder = tmp_path_factory.mktemp("outputs")
    authority = Authority(folder)
    client = authority.issue("client")
    for name in re.findall(r'"([\w.]+\.(?:crt|key))"', PAGE):
        source = client.key if name.endswith("key") else client.cert
        (folder / name).write_bytes(source.read_bytes())
        (folder / name).chmod(0o600)
    return folder


@pytest.mark.parametrize("text", EXAMPLES)
def test_each_example_is_taken_without_a_warning(folder: Path, text: str) -> None:
    """One output, or the whole section."""
    example: dict[str, Any] = json.loads(text)
    outputs = example.get("outputs", {"one": example})

    settings = parse_settings(
        {"inputs": {"office365": INPUT}, "outputs": outputs},
        path=folder / "config.json",
        environment={"SECRET": "made up", "DEVO_TOKEN": "made up"},
    )

    assert settings.warnings == ()
    assert [output.name for output in settings.outputs] == [*outputs]


@pytest.mark.parametrize("kind", sorted({*OUTPUTS.by_name} - {"stdout"}))
def test_every_type_stands_in_the_first_table(kind: str) -> None:
    """Each with what it promises; `stdout` is another name for the console."""
    names = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", PAGE, re.MULTILINE)))

    assert kind in names


def test_the_queue_lies_where_the_page_says() -> None:
    """The folder, and the number of tables that Devo has."""
    assert f"`{QUEUES_FOLDER}/<name of the output>`" in PAGE
    assert 30 <= len(KNOWN_WORKLOADS) <= 40
    assert len(EXAMPLES) >= 5
