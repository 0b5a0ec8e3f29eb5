"""What the audit of the packages finds, and what the bill of materials says of them."""

from __future__ import annotations

import json
import re
import tomllib
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.message import Message
from typing import Any

import pytest

from tools.audit import (
    EXIT_FOUND,
    EXIT_UNSEEN,
    Audit,
    Finding,
    audit,
    direct_names,
    find_uploads,
    find_vulnerabilities,
    judge_licences,
    judge_uploads,
    main,
)
from tools.licences import is_allowed, licence_of
from tools.sbom import BILL, ROOT, render_bill

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


def test_a_licence_that_is_not_allowed_is_wrong_always() -> None:
    """Not only where somebody asks for a strict audit."""
    [found] = judge_licences([PART, PART | {"licenses": [{"license": {"name": "unknown"}}]}])

    assert found.is_wrong
    assert "a 1" in found.text


def test_known_vulnerabilities_are_named_with_the_package() -> None:
    """The database answers in the order of the questions, with nothing for what it knows nothing of."""

    def fetch(request: urllib.request.Request) -> Any:
        assert isinstance(request.data, bytes)
        asked = [one["package"]["purl"] for one in json.loads(request.data)["queries"]]
        assert asked == ["pkg:pypi/a@1", "pkg:pypi/b@2"]
        return {"results": [{}, {"vulns": [{"id": "PYSEC-1"}, {"id": "GHSA-2"}]}]}

    parts = [PART, PART | {"name": "b", "version": "2", "purl": "pkg:pypi/b@2"}]

    assert [one.text for one in find_vulnerabilities(parts, fetch)] == ["b 2: PYSEC-1", "b 2: GHSA-2"]


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

    uploads = find_uploads(list(times), fetch, index=INDEX)

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
    assert main(arguments, fetch=unreachable, index=INDEX) == code

    *unseen, last = capsys.readouterr().err.splitlines()
    assert [line.partition(" could not be looked at: ")[0] for line in unseen] == [
        "audit: vulnerabilities",
        "audit: releases",
    ]
    assert re.fullmatch(r"audit: looked at licences of \d\d packages: 0 found", last)


def test_an_audit_says_how_much_it_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    """Green is a number of packages and not a silence."""
    assert main(["--strict"], fetch=healthy, index=INDEX) == 0
    assert re.fullmatch(
        r"audit: looked at licences of (\d\d) packages, vulnerabilities of \1, "
        r"releases of \d\d that we name ourselves: 0 found\n",
        capsys.readouterr().err,
    )


def test_an_index_that_tells_no_times_is_told() -> None:
    """A strict audit does not take its silence for good news."""
    told = audit(lambda request: healthy(request, time=None), index=INDEX, now=NOW)

    [line] = told.unseen
    assert line.startswith("the index does not say when these were released: ")
    assert (told.exit_code(strict=True), told.exit_code(strict=False)) == (EXIT_UNSEEN, 0)


def test_what_was_found_comes_before_what_could_not_be_looked_at() -> None:
    """One exit code for both: what is known to be wrong."""
    odd = Audit([Finding("a 1: PYSEC-1", is_wrong=False)], [], ["releases could not be looked at"])

    assert (odd.exit_code(strict=True), odd.exit_code(strict=False)) == (EXIT_FOUND, 0)


def test_what_only_the_board_needs_is_asked_about_too() -> None:
    """Its packages answer the network; the project itself, which `all` names, is none of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert {"starlette", "argon2-cffi", "keyring", "typer"} <= set(direct_names(project))
    assert "m365watch" not in direct_names(project)


def test_a_wrong_argument_is_told() -> None:
    """And nothing is asked of anybody."""
    assert main(["--all"]) == 2


def test_the_bill_is_the_same_on_every_system() -> None:
    """What is not installed here, as a package for Windows, stays as it was."""
    assert render_bill() == BILL.read_text()
    assert render_bill(find=lambda _: None) == BILL.read_text()


def test_a_part_that_nobody_knows_is_unknown() -> None:
    """A new pin that is not installed has no licence until somebody looks."""
    parts = json.loads(render_bill(find=lambda _: None, before=""))["components"]

    assert {one["license"]["name"] for part in parts for one in part["licenses"]} == {"unknown"}
