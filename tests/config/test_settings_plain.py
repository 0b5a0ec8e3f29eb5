"""A plain configuration, read without the library: as that has it, or left to it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m365watch.config.load import load_settings
from m365watch.config.plain import read_plainly
from m365watch.config.settings import Settings
from settings_documents import APPLICATION, OTHER_TENANT, SECRET, TENANT, Document, filled_in

ENVIRONMENT = {"X": SECRET, "ID": TENANT, "EMPTY": "", "COLLECTOR_IMAGE": "image:1"}
THIRD_TENANT = "0a1b2c3d-0000-4000-8000-00000000000c"
TEMPLATE: Document = {
    "inputs": {
        "office365": {
            "id": "12345",
            "enabled": True,
            "credentials": {"client_id": APPLICATION, "tenant_id": TENANT, "client_secret": SECRET},
            "services": {
                "azure_active_directory": {
                    "start_time_in_utc": "2026-11-17T00:00:00.000Z",
                    "override_tag": "cloud.office365.management.mine",
                    "override_bloom_filter_size": "100000",
                    "override_bloom_filter_buffer_size": "1000",
                }
            },
        }
    }
}
"""Devo's own, filled in."""
FULL: Document = {
    "globals": {
        "id": 7,
        "name": "mine",
        "debug": False,
        "persistence": {"type": "filesystem", "config": {"directory_name": "kept/state"}},
    },
    "inputs": {
        "office365": {
            "type": "office365",
            "id": "a",
            "enabled": True,
            "credentials": {"client_id": APPLICATION.upper(), "tenant_id": [TENANT], "client_secret": "${X}"},
            "cloud": {
                "login_url": "http://127.0.0.1:81/",
                "management_url": "https://m.example",
                "audience": "a",
                "graph_url": "https://g.example/",
            },
            "services": {
                "exchange": None,
                "sharepoint": {"enabled": False},
                "dlp": {"request_period_in_seconds": 60, "override_tag": "a.{workload}"},
                "uri_retry": {},
            },
        },
        "other": {
            "type": "office365",
            "credentials": {
                "client_id": APPLICATION,
                "tenant_id": [OTHER_TENANT.upper(), THIRD_TENANT],
                "client_secret": SECRET,
            },
            "cloud": "gcc-high",
        },
    },
    "outputs": {
        "out": {"type": "files", "enabled": True, "config": {"directory": "f", "compression": "zstd"}}
    },
    "detections": {"enabled": True},
}
"""Every key that is plain."""
PLAIN = {
    "the smallest": filled_in(),
    "Devo's template": TEMPLATE,
    "every key": FULL,
    "a lake": filled_in() | {"outputs": {"lake": {"type": "lake"}}, "detections": {"enabled": False}},
    "a lake elsewhere": filled_in() | {"outputs": {"l": {"type": "lake", "config": {"directory": "/l"}}}},
    "console": filled_in() | {"outputs": {"console": {"type": "console", "config": {}}}},
    "nothing in them": filled_in(services={}) | {"outputs": {}, "globals": {}, "detections": {}},
}
TELLING: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        86_401,
        10**10,
        2**70,
        1.5,
        "",
        " ",
        "true",
        "1",
        "007",
        "1e3",
        "+5",
        "a b",
        "...",
    ),
    *(
        "<x>",
        "a<b>c",
        "${X}",
        "${ID}",
        "${EMPTY}",
        "${NONE}",
        "${",
        "a${X}b",
        "keyring:a/b",
        "\n",
        "\0",
        "\ud800",
    ),
    *("x" * 5_000, TENANT, OTHER_TENANT, APPLICATION, SECRET, "contoso.com", "worldwide", "china", "redis"),
    *(
        "memory",
        "json",
        "lake",
        "Files",
        "files",
        "stdout",
        "syslog",
        "zstd",
        "2026-11-17",
        "1999-01-01",
        "a.b",
    ),
    *(
        "~/x",
        "/",
        ".",
        "..",
        "state",
        "kept",
        "http://a.example",
        "https://b.example?x",
        "office365",
        "detections",
    ),
    *(
        [],
        {},
        [TENANT],
        [TENANT, TENANT],
        [TENANT, OTHER_TENANT],
        [1],
        {"enabled": False},
        {"enabled": "false"},
    ),
    *({"type": "lake"}, {"a": 1}, [[]], {"name": "gcc"}, "\u2026", "\u00e9", "\u202e"),
]
KEYS = [
    *(
        "type",
        "id",
        "enabled",
        "credentials",
        "cloud",
        "services",
        "inputs",
        "outputs",
        "globals",
        "detections",
    ),
    *(
        "tenant_id",
        "client_id",
        "client_secret",
        "client_secret_file",
        "certificate_file",
        "second",
        "exchange",
    ),
    *("uri_retry", "service_health", "dlp", "name", "config", "directory", "directory_name", "dir", "debug"),
    *(
        "lookback_secs",
        "network",
        "graph_url",
        "multiprocessing",
        "office365",
        "lake",
        "board",
        "x y",
        "",
        "<a>",
    ),
]
changes = st.sampled_from(TELLING).map(copy.deepcopy) | st.text(max_size=8) | st.integers()


def some(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    """An object with some of these keys."""
    return st.fixed_dictionaries({}, optional=optional)


names = st.sampled_from(["a", "mine", "9", "A-b_c", "x" * 64])
numbers = st.integers(1, 1_000_000_000) | st.integers(1, 1_000_000_000).map(str)
directories = st.sampled_from(["a", "../b", "/c/d", "./e/../f", "a b", " g", "lake", "state"])
services = some(
    enabled=st.booleans(),
    start_time_in_utc=st.sampled_from(["2026-11-17", " 2026-11-17T09:00:00+05:30", "2026-11-17T00:00:00.5Z"]),
    request_period_in_seconds=st.integers(1, 86_400) | st.just("300"),
    override_tag=st.sampled_from(["a.b", "a.{workload}.{operation}"]),
    override_bloom_filter_size=numbers,
    override_bloom_filter_buffer_size=numbers,
)
inputs = st.fixed_dictionaries(
    {
        "type": st.just("office365"),
        "credentials": st.fixed_dictionaries(
            {
                "client_id": st.sampled_from([APPLICATION, APPLICATION.upper()]),
                "client_secret": st.sampled_from([SECRET, "${X}", "a${X}b", " <", "p w"]),
                "tenant_id": st.just(TENANT) | st.lists(st.sampled_from([TENANT, THIRD_TENANT]), max_size=2),
            }
        ),
    },
    optional={
        "id": names | st.integers(),
        "enabled": st.just(True),
        "cloud": st.sampled_from(["worldwide", "gcc", "gcc-high", "dod", "china"])
        | st.just({"login_url": "https://a.example/x/", "management_url": "https://manage.office.com"})
        | st.just(FULL["inputs"]["office365"]["cloud"]),
        "services": some(
            **dict.fromkeys(("azure_active_directory", "general_audit", "dlp"), services | st.none()),
            uri_retry=st.none() | st.just({}),
        ),
    },
)
outputs: st.SearchStrategy[Document] = (
    st.fixed_dictionaries({"type": st.just("lake")}, optional={"config": some(directory=directories)})
    | st.fixed_dictionaries(
        {"type": st.just("files")},
        optional={
            "config": some(directory=directories, compression=st.sampled_from(["none", "gzip", "zstd"]))
        },
    )
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["console", "stdout"])}, optional={"config": st.just({})}
    )
)
documents = st.fixed_dictionaries(
    {"inputs": st.dictionaries(names, inputs, min_size=1, max_size=2)},
    optional={
        "outputs": st.dictionaries(names, outputs, max_size=1),
        "detections": some(enabled=st.booleans()),
        "globals": some(
            id=names | st.integers(),
            name=names,
            debug=st.booleans(),
            persistence=some(
                type=st.sampled_from(["filesystem", "json"]), config=some(directory_name=directories)
            ),
        ),
    },
)


def written(folder: Path, text: str, *, name: str = "c.json") -> Path:
    path = folder / name
    path.write_bytes(text.encode(errors="surrogatepass"))
    path.chmod(0o600)
    return path


def agree(path: Path) -> Settings | None:
    """What is read plainly, once the library has read the same: with all secrets, and without."""
    for for_reading in (True, False):
        plain = read_plainly(path, environment=ENVIRONMENT, for_reading=for_reading)
        if plain is not None:
            assert plain == load_settings(path, environment=ENVIRONMENT, for_reading=for_reading)
    return plain


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_file_is_read_as_the_library_reads_it(tmp_path: Path, name: str) -> None:
    """Setting by setting, defaults included."""
    assert agree(written(tmp_path, json.dumps(PLAIN[name]))) is not None


def test_yaml_is_read_as_well(tmp_path: Path) -> None:
    """A service that is named without options has nothing behind its colon."""
    text = f"""
inputs:
  office365:
    credentials: {{tenant_id: {TENANT}, client_id: {APPLICATION}, client_secret: "${{X}}"}}
    services:
      exchange:
      sharepoint: {{override_bloom_filter_size: 5, start_time_in_utc: 2026-11-17}}
"""
    assert agree(written(tmp_path, text, name="c.yaml")) is not None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"inputs": {}, "inputs": {}}', "a: 1\nb: [", "- 1", '{"inputs": 1}']
)
def test_what_is_no_configuration_is_left_to_the_library(tmp_path: Path, text: str) -> None:
    """It has the words for what is wrong."""
    assert read_plainly(written(tmp_path, text), environment={}) is None


def test_a_missing_file_is_left_to_the_library(tmp_path: Path) -> None:
    """As is one that cannot be read."""
    assert read_plainly(tmp_path / "none.json", environment={}) is None
    assert read_plainly(tmp_path, environment={}) is None


def test_a_secret_that_others_can_read_is_left_to_the_library(tmp_path: Path) -> None:
    """It warns of it; one from the environment is in no file."""
    inline = written(tmp_path, json.dumps(filled_in()))
    inline.chmod(0o644)
    away = written(tmp_path, json.dumps(filled_in()).replace(SECRET, "${X}"), name="away.json")
    away.chmod(0o644)

    assert agree(inline) is None
    assert agree(away) is not None


def test_a_key_that_is_there_twice_is_left_to_the_library(tmp_path: Path) -> None:
    """Wherever it stands."""
    text = json.dumps(FULL)
    for key in ("globals", "office365", "tenant_id", "login_url", "exchange", "override_tag", "out", "type"):
        doubled = text.replace(f'"{key}": ', f'"{key}": null, "{key}": ')
        assert agree(written(tmp_path, doubled)) is None


def test_what_plain_keys_say_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    """Many such files are plain; what does not go together is left to the library."""
    plain = []

    @settings(max_examples=100)
    @given(documents)
    def read(document: Document) -> None:
        plain.append(agree(written(tmp_path, json.dumps(document))) is not None)

    read()
    assert sum(plain) > len(plain) / 20


@settings(max_examples=250)
@given(st.data())
def test_whatever_is_changed_both_agree(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    """Or it is left to the library: it never refuses, or reads otherwise, what was taken for plain."""
    document = copy.deepcopy(draw.draw(st.sampled_from([*PLAIN.values()])))
    for _ in range(draw.draw(st.integers(1, 2))):
        change_somewhere(document, draw)

    agree(written(tmp_path_factory.getbasetemp(), json.dumps(document)))


def change_somewhere(document: Document, draw: st.DataObject) -> None:
    """Put another value, or another key, into one place of the document."""
    place: Any = document
    while True:
        steps = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        if not steps:
            break
        step = draw.draw(st.sampled_from(steps))
        if not (isinstance(place[step], dict | list) and place[step]) or not draw.draw(st.integers(0, 3)):
            break
        place = place[step]
    if isinstance(place, dict) and (not place or not draw.draw(st.integers(0, 2))):
        place[draw.draw(st.sampled_from(KEYS))] = draw.draw(changes)
    elif place:
        place[step] = draw.draw(changes)
