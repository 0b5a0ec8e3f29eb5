"""`detections`: on beside a lake, strict, and every mistake named by its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m365watch.config.loader import load_server_settings, parse_settings
from m365watch.config.models.detections import DetectionsSection
from m365watch.detection.rules.rule_library import list_packs
from settings_documents import Document, filled_in, mistakes_of, settings_of

CONSOLE = {"screen": {"type": "console"}}


def document(outputs: Document | None = None, **keys: Any) -> Document:
    made = filled_in() | {"detections": keys}
    return made | {"outputs": outputs} if outputs is not None else made


def test_detections_are_on_where_there_is_a_lake() -> None:
    """And elsewhere where somebody says so."""
    lake, console = settings_of(document()), settings_of(document(CONSOLE))

    assert (lake.detections.enabled, lake.receivers) == (True, ("lake", "detections"))
    assert (console.detections.enabled, console.receivers) == (False, ("screen",))
    assert settings_of(document(CONSOLE, enabled=True)).detections.enabled
    assert not settings_of(document(enabled=False)).detections.enabled


def test_the_packs_are_those_that_come_along() -> None:
    """All of them unless told otherwise."""
    assert sorted(DetectionsSection().packs) == list_packs()
    assert settings_of(document()).detections.packs == DetectionsSection().packs
    assert settings_of(document(packs=[])).detections.packs == ()
    assert settings_of(document(packs="core")).detections.packs == ("core",)


def test_paths_start_at_the_files_folder_and_domains_are_in_lower_case(tmp_path: Path) -> None:
    """One text stands for a list of one."""
    (tmp_path / "mine").mkdir()
    given = document(rules_directories="mine", accepted_domains=["Contoso.Example", "@b.example"])
    found = parse_settings(given, path=tmp_path / "c.json", environment={}).detections

    assert found.rules_directories == (tmp_path / "mine",)
    assert found.accepted_domains == {"contoso.example", "b.example"}


def test_files_that_enrich_are_found_beside_the_configuration(tmp_path: Path) -> None:
    """One path stands for a list of one; names may be written down in place of a file."""
    for name in ("tor.txt", "city.mmdb"):
        (tmp_path / name).touch()
    given = document(enrich={"databases": "city.mmdb", "tor_lists": ["tor.txt"], "vips": "boss@b.example"})
    found = parse_settings(given, path=tmp_path / "c.json", environment={}).detections.enrich

    assert found.databases == (tmp_path / "city.mmdb",)
    assert found.tor_lists == (tmp_path / "tor.txt",)
    assert found.vips == ("boss@b.example",)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"enable": True}, 'detections.enable: unknown key; did you mean "enabled"?'),
        ({"packs": ["cores"]}, 'detections.packs[0]: "cores" (text) is not supported by this version; give'),
        ({"risk_points": -1}, "detections.risk_points: -1 (whole number) is out of range; give a whole"),
        (
            {"accepted_domains": "no domain"},
            'detections.accepted_domains: "no domain" (text) is not a domain such as',
        ),
        ({"enrich": {"tor_list": []}}, 'detections.enrich.tor_list: unknown key; did you mean "tor_lists"'),
        (
            {"enrich": {"vips": ["x", 5]}},
            "detections.enrich.vips[1]: 5 (whole number) is a number and no user name; give",
        ),
        ({"enabled": "perhaps"}, 'detections.enabled: "perhaps" (text) is neither true nor false'),
    ],
)
def test_each_mistake_has_its_line(keys: dict[str, Any], line: str) -> None:
    """With the key, what is wrong and what would be right."""
    [told] = mistakes_of(document(**keys))

    assert told.startswith(line)


def test_a_list_that_is_not_there_stops_nothing(tmp_path: Path) -> None:
    """It may be fetched every night, and be late; the collector collects all the same."""
    given = document(enrich={"databases": "none.mmdb", "tor_lists": ["none.txt"]})

    found = parse_settings(given, path=tmp_path / "c.json", environment={}).detections.enrich
    assert (found.databases, found.tor_lists) == ((tmp_path / "none.mmdb",), (tmp_path / "none.txt",))


def test_rules_and_exceptions_that_are_not_there_stop_nothing(tmp_path: Path) -> None:
    """A file that was renamed at night does not keep records from being collected."""
    given = document(rules_directories=["nowhere"], exceptions_file="none.yml")

    found = parse_settings(given, path=tmp_path / "c.json", environment={}).detections
    assert (found.rules_directories, found.exceptions_file) == (
        (tmp_path / "nowhere",),
        tmp_path / "none.yml",
    )


def test_no_output_has_the_name_of_the_detections() -> None:
    """The ledger keeps how far they are under it."""
    outputs = {"detections": {"type": "lake"}}

    [told] = mistakes_of(document(outputs))

    assert told.startswith("outputs.detections: is the name that the collector's own detections have; give")


def test_a_command_that_only_reads_needs_no_directory() -> None:
    """As it needs no secret."""
    given = document(rules_directories=["nowhere"])

    found = parse_settings(given, path=Path("/somewhere/c.json"), environment={}, for_reading=True)

    assert found.detections.rules_directories == (Path("/somewhere/nowhere"),)


def test_devos_collector_file_may_have_them(tmp_path: Path) -> None:
    """Beside its loggers."""
    job, collector = tmp_path / "job.yaml", tmp_path / "collector.yaml"
    job.write_text(
        "inputs: {office365: {credentials: {tenant_id: 0a1b2c3d-0000-4000-8000-00000000000a,"
        " client_id: 99999999-8888-4777-8666-555555555555, client_secret: made-up}}}\n"
    )
    collector.write_text("loggers: [{type: lake}]\ndetections: {packs: core}\n")

    found = load_server_settings(job=job, collector=collector, environment={})

    assert (found.detections.enabled, found.detections.packs) == (True, ("core",))


def test_accounts_are_spared_by_name_in_either_case() -> None:
    """Without an application that responds as well: the plan says it."""
    settings = settings_of(document(spared_accounts="Breakglass@contoso.example"))

    assert {one.lower() for one in settings.detections.spared_accounts} == {"breakglass@contoso.example"}
    assert settings.detections.responder is None


@pytest.mark.parametrize("given", ["breakglass", "contoso\\breakglass", "a@b@c", "12345"])
def test_an_account_that_no_step_can_name_is_not_taken_for_spared(given: str) -> None:
    """A short name would be spared nowhere, and nobody would know before the night."""
    [mistake] = mistakes_of(document(spared_accounts=["ok@contoso.example", given]))

    assert "is neither a user name with its domain nor an object id" in mistake
