"""Are the packages that a run is made of free to use, without known holes, and looked after?

`python -m tools.audit` says so; without the network it says what it could not look at. It ends with 1
where a licence is not allowed or a package is given up by its authors; with `--strict` also for a known
vulnerability, and for a direct dependency without a release in three years.
"""

from __future__ import annotations

import json
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from packaging.requirements import Requirement

from m365watch.clock import SystemClock
from tools.licences import is_allowed
from tools.sbom import BILL, ROOT, installed_metadata

VULNERABILITIES = "https://api.osv.dev/v1/querybatch"
"""Of the database that gathers the advisories of PyPI, GitHub and others; asked with names and versions."""
RELEASED_WITHIN = timedelta(days=3 * 365)
_ANSWER_S = 15
_ASKED_AT_ONCE = 8

Fetch = Callable[[urllib.request.Request], Any]
"""Gives the JSON of an answer; raises OSError or ValueError where there is none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the audit."""

    text: str
    is_wrong: bool
    """Whether it ends the audit with 1 always, and not only a strict one."""


def judge_licences(parts: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """What may not be used, or nobody knows under which licence."""
    found = []
    for part in parts:
        [licence] = [one.get("expression") or one["license"]["name"] for one in part["licenses"]]
        if not is_allowed(licence):
            found.append(
                Finding(
                    f"{part['name']} {part['version']}: the licence {licence} is not allowed", is_wrong=True
                )
            )
    return found


def judge_status(names: Iterable[str]) -> list[Finding]:
    """What its authors say they have given up."""
    inactive = "Development Status :: 7 - Inactive"
    return [
        Finding(f"{name}: given up by its authors", is_wrong=True)
        for name in names
        if (found := installed_metadata(name)) is not None and inactive in found.get_all("Classifier", [])
    ]


def find_vulnerabilities(parts: Sequence[Mapping[str, Any]], fetch: Fetch) -> list[Finding]:
    """The known ones of exactly these versions."""
    queries = [{"package": {"purl": part["purl"]}} for part in parts]
    request = urllib.request.Request(
        VULNERABILITIES,
        data=json.dumps({"queries": queries}).encode(),
        headers={"Content-Type": "application/json"},
    )
    answers = fetch(request)["results"]
    return [
        Finding(f"{part['name']} {part['version']}: {one['id']}", is_wrong=False)
        for part, answer in zip(parts, answers, strict=True)
        for one in (answer or {}).get("vulns", [])
    ]


def find_neglected(names: list[str], fetch: Fetch, *, index: str, now: datetime) -> list[Finding]:
    """Direct dependencies whose newest release is old; the index says when each was uploaded (PEP 700)."""

    def newest(name: str) -> str:
        request = urllib.request.Request(  # noqa: S310 - the index that pip is set up with
            f"{index.rstrip('/')}/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
        )
        return max((one.get("upload-time") or "" for one in fetch(request)["files"]), default="")

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        uploaded = dict(zip(names, pool.map(newest, names), strict=True))
    return [
        Finding(f"{name}: no release since {at[:10]}", is_wrong=False)
        for name, at in uploaded.items()
        if at and now - datetime.fromisoformat(at) > RELEASED_WITHIN
    ]


def fetch_json(request: urllib.request.Request) -> Any:
    """The JSON of an answer."""
    with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310 - https, above
        return json.loads(answer.read())


def audit(fetch: Fetch, *, index: str, now: datetime) -> list[Finding]:
    """Everything that was found, and what could not be looked at."""
    parts = json.loads(BILL.read_text())["components"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [Requirement(text).name for text in project["dependencies"]]
    found = [*judge_licences(parts), *judge_status(part["name"] for part in parts)]
    looks: dict[str, Callable[[], list[Finding]]] = {
        "vulnerabilities": lambda: find_vulnerabilities(parts, fetch),
        "releases": lambda: find_neglected(direct, fetch, index=index, now=now),
    }
    for what, look in looks.items():
        try:
            found += look()
        except (OSError, ValueError, KeyError) as error:
            sys.stderr.write(f"audit: {what} could not be looked at: {str(error)[:200]}\n")
    return found


def main(arguments: list[str]) -> int:
    """The exit code."""
    if arguments not in ([], ["--strict"]):
        sys.stderr.write("usage: python -m tools.audit [--strict]\n")
        return 2
    from pip._internal.models.index import PyPI

    found = audit(fetch_json, index=PyPI.simple_url, now=SystemClock().now())
    for one in found:
        sys.stderr.write(f"audit: {one.text}\n")
    return 1 if any(one.is_wrong or arguments for one in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
