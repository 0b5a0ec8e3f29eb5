"""What the audit of the packages finds; and the SBOM."""

from __future__ import annotations

import json
import re
import tomllib
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.message import Message
from importlib import metadata
from typing import Any

import pytest
from promises import guarantee

from tools.audit import (
    EXIT_FOUND,
    EXIT_UNSEEN,
    Audit,
    Finding,
    Places,
    audit,
    direct_names,
    find_upload,
    judge_licences,
    judge_uploads,
    main,
)
from tools.licences import is_allowed, licence_of
from tools.sbom import LOCK, ROOT, render_sbom

NOW = datetime(2026, 11, 27, tzinfo=UTC)
INDEX = "https://index.example/simple"
PART: dict[str, Any] = {
    "name": "a",
    "version": "1",
    "purl": "pkg:pypi/a@1",
    "licenses": [{"expression": "MIT"}],
}


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License-Expression": "MIT OR Apache-2.0", "License": "x"}, "MIT OR Apache-2.0"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"License": "a text\nof many lines", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT"),
        ({"Classifier": "License :: Other/Proprietary License"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_licence_is_read_whatever_the_metadata_call_it(fields: dict[str, str], licence: str) -> None:
    """Its own expression, a short name, or a classifier, in this order."""
    metadata = Message()
    for name, text in fields.items():
        metadata[name] = text

    assert licence_of(metadata) == licence


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("Apache-2.0 AND CNRI-Python", True),
        ("MIT AND (GPL-3.0-only OR BSD-3-Clause)", False),
        ("unknown", False),
    ],
)
def test_only_listed_licences_are_allowed(expression: str, *, allowed: bool) -> None:
    """Of a choice one is enough; brackets are read the strict way."""
    assert is_allowed(expression) is allowed


@guarantee(27)
def test_a_licence_that_is_not_allowed_is_wrong_always() -> None:
    """Not only where somebody asks for a strict audit."""
    [found] = judge_licences([PART, PART | {"licenses": [{"license": {"name": "unknown"}}]}])

    assert found.is_wrong
    assert "a 1" in found.text


def test_a_package_without_a_release_for_years_is_told() -> None:
    """By the newest of its files, whatever their order; an index that tells no times says nothing."""
    times: dict[str, list[str | None]] = {
        "old": ["2019-01-01T00:00:00Z", "2023-01-01T00:00:00Z"],
        "new": ["2026-01-01T00:00:00Z"],
        "mute": [None],
    }

    def fetch(request: urllib.request.Request) -> Any:
        name = request.full_url.rstrip("/").rpartition("/")[2]
        return {"files": [{"upload-time": time} for time in times[name]]}

    uploads = {name: find_upload(name, fetch, index=INDEX) for name in times}

    assert [one.text for one in judge_uploads(uploads, now=NOW)] == ["old: no release since 2023-01-01"]
    assert uploads["mute"] is None


def unreachable(_: urllib.request.Request) -> Any:
    """No network."""
    raise urllib.error.URLError("no route")


def healthy(request: urllib.request.Request, *, time: str | None = "2026-01-01T00:00:00Z") -> Any:
    """A database that knows nothing of anything, and an index."""
    if isinstance(request.data, bytes):
        return {"results": [{} for _ in json.loads(request.data)["queries"]]}
    return {"files": [{"upload-time": time}]}


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--strict"], EXIT_UNSEEN)])
def test_what_could_not_be_looked_at_is_told_and_no_strict_audit_passes(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    """The licences are looked at without a network, and what was not is a line each."""
    assert main(arguments, fetch=unreachable) == code

    *unseen, last = capsys.readouterr().err.splitlines()
    assert [line.partition(";")[0] for line in unseen] == [
        "audit: NOT LOOKED AT: known vulnerabilities",
        "audit: NOT LOOKED AT: releases",
    ]
    assert re.fullmatch(r"audit: looked at licences of \d\d packages: 0 found", last)


def test_an_audit_says_how_much_it_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    """Green is a number of packages and not a silence."""
    assert main(["--strict"], fetch=healthy) == 0
    assert re.fullmatch(
        r"audit: looked at licences of \d\d packages, vulnerabilities of 1\d\d locked versions, "
        r"releases of \d\d that we name ourselves: 0 found\n",
        capsys.readouterr().err,
    )


def test_an_index_that_tells_no_times_is_told() -> None:
    """A strict audit does not take its silence for good news."""
    places = Places("https://database.example", INDEX)
    told = audit(lambda request: healthy(request, time=None), places, now=NOW, answers_s=60)

    [line] = told.unseen
    assert line.startswith("the index does not say when these were released: ")
    assert (told.exit_code(strict=True), told.exit_code(strict=False)) == (EXIT_UNSEEN, 0)


def test_what_was_found_comes_before_what_could_not_be_looked_at() -> None:
    """One exit code for both: what is known to be wrong."""
    odd = Audit([Finding("a: no release since 2023-01-01", is_wrong=False)], unseen=["NOT LOOKED AT"])

    assert (odd.exit_code(strict=True), odd.exit_code(strict=False)) == (EXIT_FOUND, 0)


def test_what_only_the_board_needs_is_asked_about_too() -> None:
    """Its packages answer the network; the project itself, which `all` names, is none of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert {"starlette", "argon2-cffi", "keyring", "typer"} <= set(direct_names(project))
    assert "m365watch" not in direct_names(project)


def test_a_wrong_argument_is_told() -> None:
    """And nothing is asked of anybody."""
    with pytest.raises(SystemExit) as ended:
        main(["--all"], fetch=unreachable)

    assert ended.value.code == 2


@pytest.fixture(scope="module")
def components() -> list[dict[str, Any]]:
    return json.loads(render_sbom())["components"]  # type: ignore[no-any-return]


def test_the_sbom_has_what_is_installed_with_licences_and_the_locks_hashes(
    components: list[dict[str, Any]],
) -> None:
    lock = LOCK.read_text()
    assert len(components) > 55
    for one in components:
        assert one["version"] == metadata.version(one["name"])
        assert "unknown" not in str(one["licenses"])
        assert one["hashes"]
        assert all(f"--hash=sha256:{part['content']}" in lock for part in one["hashes"])


def test_the_sbom_says_who_needs_whom(components: list[dict[str, Any]]) -> None:
    needs = {one["ref"]: one["dependsOn"] for one in json.loads(render_sbom())["dependencies"]}
    purls = {one["name"]: one["purl"] for one in components}

    assert purls["pydantic"] in needs["m365watch"]
    assert purls["pydantic-core"] in needs[purls["pydantic"]]
    assert set(needs) == {"m365watch", *purls.values()}


def test_a_package_that_is_not_installed_has_no_known_licence() -> None:
    parts = json.loads(render_sbom(find=lambda _: None))["components"]

    assert {one["license"]["name"] for part in parts for one in part["licenses"]} == {"unknown"}
