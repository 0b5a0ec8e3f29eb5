"""Whatever a document holds, the answer is settings or a list of mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from promises import guarantee

from m365watch.common.errors import SettingsRefused
from m365watch.config.loader import load_server_settings, load_settings, parse_settings
from m365watch.config.models.credentials import Credentials, with_kinds
from m365watch.config.models.globals import Globals
from m365watch.config.models.inputs import DlpSection, InputSection, MaskSection, Services
from m365watch.config.models.schema import ConfigurationFile
from m365watch.config.models.settings import Settings
from m365watch.outputs.console.spec import ConsoleSection
from m365watch.outputs.devo.spec import DevoConfig
from m365watch.outputs.devo_http.spec import DevoHttpConfig
from m365watch.outputs.files.spec import FilesConfig
from m365watch.outputs.syslog.spec import SyslogConfig
from settings_documents import OTHER_TENANT, SECRET, filled_in

SECTIONS = (
    ConfigurationFile,
    Globals,
    InputSection,
    with_kinds(Credentials),
    Services,
    DlpSection,
    MaskSection,
    FilesConfig,
    ConsoleSection,
    DevoConfig,
    DevoHttpConfig,
    SyslogConfig,
)
SERVER_KEYS = {"job_id", "job_name", "debug", "state_store", "loggers", "chain_loc", "url"}
KNOWN_KEYS = sorted(
    {"office365", "lake", *SERVER_KEYS, *(key for section in SECTIONS for key in section.model_fields)}
)
TELLING_TEXTS = [
    "",
    "...",
    "<x>",
    "${X}",
    "${",
    "true",
    "300",
    "lake",
    "files",
    "console",
    "syslog",
    "redis",
    "(a|",
    "{",
    "worldwide",
    "2026-11-17",
    "http://[",
    "a.b",
    "~",
    "/",
    "|name",
    "\0",
    "\ud800",
    OTHER_TENANT,
    SECRET,
]

texts = st.sampled_from(TELLING_TEXTS) | st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=3)
keys = st.sampled_from(KNOWN_KEYS) | texts
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=5)
        | st.dictionaries(scalars, inner, max_size=2)
    ),
    max_leaves=25,
)


def judge(read: Callable[[], Settings]) -> None:
    """Settings, or mistakes: at least one, each of them one line that can be printed."""
    try:
        found: Settings | list[str] = read()
    except SettingsRefused as error:
        found = error.mistakes
    if isinstance(found, Settings):
        assert found.tenants
    else:
        assert found
        assert all(line.isprintable() for line in found)


def read(document: object) -> Settings:
    """The settings in the document; the variable X holds a secret."""
    return parse_settings(document, path=Path("/nowhere/c.json"), environment={"X": SECRET})


@settings(max_examples=150)
@given(documents)
def test_any_document_gives_settings_or_mistakes(document: object) -> None:
    """No value of a document ends in any other exception."""
    judge(lambda: read(document))


@pytest.mark.slow
@settings(max_examples=200)
@given(st.data())
def test_any_change_of_a_good_document_gives_settings_or_mistakes(draw: st.DataObject) -> None:
    """Good but for one place, so that the checks behind the first are reached as well."""
    mask = {"name": ["a", "*"], "value": "x", "string_patterns": ["[0-9]+"]}
    service: dict[str, object] = {
        "override_tag": "a.{workload}",
        "start_time_in_utc": "2026-11-17",
        "obfuscation_data": [mask],
    }
    network = {
        "proxy": "http://a.example:3128",
        "proxy_username": "u",
        "proxy_password": "p",
        "no_proxy": ["a.example"],
        "bind_address": ["10.0.0.1", "::1"],
        "tls_minimum": 1.3,
    }
    document = filled_in(
        id="1",
        network={"proxy": "none", "read_timeout_in_seconds": 5},
        cloud={"login_url": "https://a.example", "management_url": "https://b.example"},
        services={"dlp": service, "uri_retry": {}},
        requests_limits=[{"period": "1m", "number_of_requests": 5}],
    ) | {
        "globals": {
            "name": "x",
            "persistence": {"config": {"directory_name": "s"}},
            "network": network,
        },
        "global_overrides": {"debug": True},
        "outputs": {
            "a": {"type": "files", "config": {"directory": "f"}},
            "b": {"type": "lake"},
            "c": {
                "type": "devo_http",
                "config": {"endpoint": "https://a.example", "domain": "d", "token": "t"},
            },
            "d": {"type": "syslog", "config": {"url": "a.example", "port": 514, "facility": "local0"}},
        },
    }
    place: Any = document
    while True:
        steps = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        step = draw.draw(st.sampled_from(steps))
        if not (isinstance(place[step], dict | list) and place[step]) or draw.draw(st.booleans()):
            break
        place = place[step]
    if isinstance(place, dict) and draw.draw(st.booleans()):
        place[draw.draw(keys)] = place.pop(step)
    else:
        place[step] = draw.draw(documents)

    judge(lambda: read(document))


@guarantee(26)
@settings(max_examples=150)
@given(
    st.sampled_from(["a.json", "a.yaml"]),
    st.text(alphabet=st.sampled_from("{}[]:,-?!&*#|>%@`'\" \n\ta1.~<"), max_size=40)
    | st.text(max_size=30)
    | documents.map(lambda document: json.dumps(document, default=str, skipkeys=True)),
)
def test_any_file_gives_settings_or_mistakes(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: str
) -> None:
    """No text of a file ends in any other exception."""
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(text.encode(errors="surrogatepass"))
    judge(lambda: load_settings(path, environment={}))


@settings(max_examples=100)
@given(documents, documents)
def test_any_two_files_of_a_collector_server_give_settings_or_mistakes(
    tmp_path_factory: pytest.TempPathFactory, job: object, collector: object
) -> None:
    """Whatever Devo's collector server puts into its two files."""
    folder = tmp_path_factory.getbasetemp()
    for name, document in (("job.json", job), ("collector.json", collector)):
        text = json.dumps(document, default=str, skipkeys=True)
        (folder / name).write_bytes(text.encode(errors="surrogatepass"))
    judge(
        lambda: load_server_settings(
            job=folder / "job.json", collector=folder / "collector.json", environment={}
        )
    )
