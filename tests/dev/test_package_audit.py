"""What the audit of the packages finds, and what the bill of materials says of them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.message import Message
from typing import Any

import pytest

from tools.audit import audit, find_neglected, find_vulnerabilities, judge_licences, main
from tools.licences import is_allowed, licence_of
from tools.sbom import BILL, render_bill

NOW = datetime(2026, 11, 27, tzinfo=UTC)
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

    found = find_neglected(list(times), fetch, index="https://index.example/simple", now=NOW)

    assert [one.text for one in found] == ["old: no release since 2023-01-01"]


def test_without_the_network_the_rest_is_audited(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each thing that could not be looked at; the packages that we use are allowed."""

    def fetch(_: urllib.request.Request) -> Any:
        raise urllib.error.URLError("no route")

    assert audit(fetch, index="https://index.example/simple", now=NOW) == []
    assert capsys.readouterr().err.count("could not be looked at") == 2


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
