"""From a file's bytes to a document: JSON, YAML, and what is wrong with either."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from made_outputs import lake_in

from m365watch.common.errors import SettingsRefused
from m365watch.common.model import Service
from m365watch.common.text import plain
from m365watch.config.loader import example_settings, load_settings
from m365watch.config.models.settings import Settings
from settings_documents import APPLICATION, OTHER_TENANT, SECRET, TENANT, filled_in, secret_of


def write(folder: Path, text: str | bytes, *, name: str = "collector.json") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o600)
    return path


def load(path: Path, **environment: str) -> Settings:
    return load_settings(path, environment=environment)


def refused(path: Path, **environment: str) -> list[str]:
    with pytest.raises(SettingsRefused) as error:
        load_settings(path, environment=environment)
    assert error.value.where == plain(str(path.absolute()))
    return error.value.mistakes


def test_devos_template_filled_in_runs_as_it_stands(tmp_path: Path) -> None:
    """The file that a user of Devo's collector has is the file that this collector takes."""
    template = """{"inputs": {"office365": {"id": "12345", "enabled": true,
      "credentials": {"client_id": "%s", "tenant_id": "%s", "client_secret": "%s"},
      "services": {"azure_active_directory": {"start_time_in_utc": "2026-11-17T00:00:00.000Z",
        "override_tag": "cloud.office365.management.mine", "override_bloom_filter_size": "100000",
        "override_bloom_filter_buffer_size": "1000"}}}}}"""
    settings = load(write(tmp_path, template % (APPLICATION, TENANT, SECRET)))

    (tenant,) = settings.tenants
    (service,) = tenant.services
    assert tenant.input_id == "12345"
    assert secret_of(tenant) == SECRET
    assert service.service is Service.AZURE_ACTIVE_DIRECTORY
    assert service.start_at == datetime(2026, 11, 17, tzinfo=UTC)
    assert service.override_tag == "cloud.office365.management.mine"
    assert (service.bloom_filter_size, service.bloom_filter_buffer_size) == (100_000, 1_000)
    assert settings.outputs == (lake_in(tmp_path / "lake"),)
    assert settings.state_directory == tmp_path / "state"
    assert settings.warnings == ()


def test_the_example_runs_once_its_ids_are_filled_in(tmp_path: Path) -> None:
    """What the README and the reference page show is not decoration."""
    text = example_settings().replace("<tenant>", TENANT).replace("<application>", APPLICATION)
    (tenant,) = load(write(tmp_path, text, name="collector.yaml"), M365_SECRET=SECRET).tenants

    assert [s.service for s in tenant.services] == [Service.AZURE_ACTIVE_DIRECTORY, Service.EXCHANGE]
    assert secret_of(tenant) == SECRET


def test_the_example_as_it_stands_is_refused_by_name(tmp_path: Path) -> None:
    """A placeholder that was forgotten is named, and so is the variable that was not set."""
    mistakes = refused(write(tmp_path, example_settings(), name="collector.yaml"))

    assert mistakes == [
        (
            'inputs.office365.credentials.client_id: "<application>" (text) is a placeholder; '
            "give the application (client) ID, a GUID"
        ),
        (
            "inputs.office365.credentials.client_secret: the environment lacks M365_SECRET, "
            "or it is empty; set it"
        ),
        (
            'inputs.office365.credentials.tenant_id: "<tenant>" (text) is a placeholder; '
            "give the tenant's GUID, or a list of GUIDs, "
            "or let `m365watch consent serve` find the tenant and write it here"
        ),
    ]


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.yml", "a.conf", "a"])
def test_the_content_decides_between_json_and_yaml(tmp_path: Path, name: str) -> None:
    """A name promises nothing: JSON and YAML are told apart by what the file holds."""
    as_json = json.dumps(filled_in())
    as_yaml = (
        "inputs:\n  office365:\n    credentials:\n"
        f"      tenant_id: {TENANT}\n      client_id: {APPLICATION}\n      client_secret: {SECRET}\n"
    )
    from_json = load(write(tmp_path, as_json, name=name))

    assert load(write(tmp_path, as_yaml, name=name)) == from_json
    assert load(write(tmp_path, "\ufeff" + as_json, name=name)) == from_json


def test_yaml_with_braces_is_yaml_where_the_name_says_so(tmp_path: Path) -> None:
    """Braces alone do not make a .yaml file JSON."""
    text = f"{{inputs: {{office365: {{credentials: {{tenant_id: {TENANT}, client_id: {APPLICATION}, \
client_secret: {SECRET},}}}}}}}}"

    assert len(load(write(tmp_path, text, name="a.yaml")).tenants) == 1
    assert refused(write(tmp_path, text, name="a.json"))


def test_yaml_values_mean_what_they_say(tmp_path: Path) -> None:
    """YAML's old guesses (no is false, 010 is 8, a date is no text) are not made."""
    text = f"""
globals: {{name: no}}
inputs:
  office365:
    id: 0123
    credentials: {{tenant_id: {TENANT}, client_id: {APPLICATION}, client_secret: "on"}}
    services: {{exchange: {{start_time_in_utc: 2026-11-17}}, dlp: , sharepoint: null}}
"""
    settings = load(write(tmp_path, text, name="a.yaml"))

    (tenant,) = settings.tenants
    assert settings.collector_name == "no"
    assert tenant.input_id == "0123"
    assert {s.service: s.start_at for s in tenant.services} == {
        Service.EXCHANGE: datetime(2026, 11, 17, tzinfo=UTC),
        Service.SHAREPOINT: None,
        Service.DLP: None,
    }


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            '{"inputs": {\n  "a": 1,\n}}',
            "line 2, column 9: a comma before a closing bracket; JSON allows none there, remove it",
        ),
        (
            '{"inputs": [1,  ]}',
            "line 1, column 14: a comma before a closing bracket; JSON allows none there, remove it",
        ),
        ('{"a" 1}', "line 1, column 6: not valid JSON: expecting ':' delimiter"),
        ('{"a": "b}', "line 1, column 7: not valid JSON: unterminated string starting"),
        ('{"a": NaN}', "has the number NaN, which JSON does not know"),
        (f'{{"a": {"9" * 5000}}}', "has a number with too many digits"),
        ("[" * 100_000, "is nested too deeply to be a configuration"),
        ("", "is empty"),
        ("# nothing yet\n", "is empty"),
        ("[]", "holds a list; give an object with inputs, in JSON or YAML"),
        ("hello", "holds plain text; give an object with inputs, in JSON or YAML"),
    ],
)
def test_a_json_file_with_a_mistake_of_syntax_says_where(tmp_path: Path, text: str, mistake: str) -> None:
    """Line and column lead to the mistake; nothing of the file is quoted."""
    assert refused(write(tmp_path, text)) == [mistake]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a: &x [1]\nb: *x", "line 2, column 4: aliases (*name) are not read"),
        (f"a: *{SECRET}", "line 1, column 9: "),
        ("a: !!python/object/apply:os.system [ls]", "line 1, column 4: tags (!name) are not read"),
        (f"a: !{SECRET}", "line 1, column 4: tags (!name) are not read"),
        ("a: !!int seven", "line 1, column 4: tags (!name) are not read"),
        ("? [a]\n: 1", "line 1, column 3: a key has to be plain text"),
        ("a: [1", "line 1, column 6: "),
        ("a: 1\n\tb: 2", "line 2, column 1: "),
        ("a: 1\n---\nb: 2", "line 2, column 1: "),
        ("a: \x07", "has a character that YAML does not allow"),
        ('a: "\\U00110000"', "has a character that YAML does not allow"),
        ('a: "\\U92337203"', "has a character that YAML does not allow"),
        ("a: " + "[" * 5_000, "is nested too deeply to be a configuration"),
    ],
)
def test_a_yaml_file_with_a_mistake_of_syntax_says_where(tmp_path: Path, text: str, mistake: str) -> None:
    """Line and column lead to the mistake; what may be a secret is not quoted."""
    (line,) = refused(write(tmp_path, text, name="a.yaml"))

    assert line.startswith(mistake)
    assert SECRET not in line


def test_a_key_given_twice_is_a_mistake_in_json_and_yaml(tmp_path: Path) -> None:
    """Of two values one would silently win."""
    good = json.dumps(filled_in())
    twice = good.replace('"client_id"', '"client_id": "x", "client_id"')
    mistake = "inputs.office365.credentials.client_id: is given twice; keep one of the two"

    assert mistake in refused(write(tmp_path, twice))
    assert mistake in refused(write(tmp_path, "# YAML\n" + twice, name="a.yaml"))


def test_a_file_that_cannot_be_read_is_one_plain_line(tmp_path: Path) -> None:
    """Missing, a folder, not UTF-8, far too large: each is said as it is."""
    assert refused(tmp_path / "none.json") == ["there is no such file"]
    assert refused(tmp_path) == ["is a directory"]
    assert refused(Path("a\0b")) == ["cannot be read: not a path"]
    assert refused(write(tmp_path, "{}".encode("utf-16"))) == ["is not UTF-8 text; save it as UTF-8"]
    assert refused(write(tmp_path, b"{" + b" " * 1_048_576)) == [
        "is larger than 1,048,576 bytes, which no configuration needs"
    ]


def test_relative_paths_start_at_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the collector is started from decides nothing."""
    document = filled_in() | {
        "globals": {"persistence": {"type": "filesystem", "config": {"directory_name": "../kept"}}},
        "outputs": {"delta": {"type": "lake", "config": {"directory": "/srv/delta"}}},
    }
    (tmp_path / "etc").mkdir()
    write(tmp_path / "etc", json.dumps(document))
    monkeypatch.chdir(tmp_path)
    settings = load(Path("etc/collector.json"))

    assert settings.path == tmp_path / "etc" / "collector.json"
    assert settings.state_directory == tmp_path / "kept"
    assert settings.lake_directory == Path("/srv/delta")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_an_inline_secret_in_a_readable_file_is_a_warning(tmp_path: Path, mode: int) -> None:
    """The file still works, since many have it so; the cure is one command."""
    path = write(tmp_path, json.dumps(filled_in()))
    path.chmod(mode)

    assert load(path).warnings == (
        f"inputs.office365.credentials.client_secret: others can read this file; run: chmod 600 {path}",
    )


def test_a_secret_from_elsewhere_in_a_readable_file_is_no_warning(tmp_path: Path) -> None:
    """What stands in the file is a variable's or a file's name only."""
    document = filled_in()
    document["inputs"]["office365"]["credentials"]["client_secret"] = "${S}"
    path = write(tmp_path, json.dumps(document))
    path.chmod(0o644)

    assert load(path, S=SECRET).warnings == ()


def test_five_hundred_tenants_load_quickly(tmp_path: Path) -> None:
    """A provider's file of many inputs stays well below the bounds."""
    inputs = {
        f"customer-{n}": {"type": "office365"}
        | filled_in()["inputs"]["office365"]
        | {"credentials": filled_in()["inputs"]["office365"]["credentials"] | {"tenant_id": guid(n)}}
        for n in range(500)
    }

    assert len(load(write(tmp_path, json.dumps({"inputs": inputs}))).tenants) == 500


def guid(number: int) -> str:
    return OTHER_TENANT[:-8] + f"{number:08d}"


def test_a_configuration_may_come_through_a_pipe(tmp_path: Path) -> None:
    """`--config <(vault read ...)` keeps the whole file off the disk."""
    reading, writing = os.pipe()
    os.write(writing, json.dumps(filled_in()).encode())
    os.close(writing)
    try:
        assert len(load(Path(f"/dev/fd/{reading}")).tenants) == 1
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("none.json", "name another file with --config, or let `m365watch init` write a first one"),
        (".", "name the file in it with --config"),
        ("empty.yaml", "let `m365watch init` write a first one"),
        ("cut.json", "correct the file and start again"),
    ],
)
def test_what_to_do_fits_what_is_wrong_with_the_file(tmp_path: Path, name: str, fix: str) -> None:
    """A file that is not there has no lines to correct."""
    write(tmp_path, "", name="empty.yaml")
    write(tmp_path, '{"inputs":', name="cut.json")

    with pytest.raises(SettingsRefused) as error:
        load_settings(tmp_path / name, environment={})
    assert error.value.fix.startswith(fix)


def test_a_mistake_in_yaml_names_the_marks_that_were_expected(tmp_path: Path) -> None:
    """The marks are YAML's own; what stands between quotes otherwise may be a secret."""
    assert refused(write(tmp_path, "a: [1\nb: 2", name="a.yaml")) == [
        "line 2, column 2: expected ',' or ']', but got ':'"
    ]
