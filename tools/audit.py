"""Are the packages that a run is made of free to use, without known holes, and looked after?

`python -m tools.audit` says so, and what it looked at; without the network, what it could not look at. It
ends with 1 where a licence is not allowed or a package is given up by its authors; with `--strict` also for a
known vulnerability, and for a direct dependency without a release in three years, and with 3 where it found
nothing but could not look at everything.
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
EXIT_FOUND, EXIT_UNSEEN = 1, 3
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


@dataclass(frozen=True, slots=True)
class Audit:
    """What was looked at, what could not be, and what was found."""

    found: list[Finding]
    seen: list[str]
    unseen: list[str]

    def exit_code(self, *, strict: bool) -> int:
        """1 where something is wrong; of a strict audit also 3 where it is not known."""
        if any(one.is_wrong or strict for one in self.found):
            return EXIT_FOUND
        return EXIT_UNSEEN if strict and self.unseen else 0


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


def find_uploads(names: list[str], fetch: Fetch, *, index: str) -> dict[str, datetime | None]:
    """When the newest file of each was uploaded (PEP 700); None where the index does not say."""

    def newest(name: str) -> datetime | None:
        request = urllib.request.Request(  # noqa: S310 - the index that pip is set up with
            f"{index.rstrip('/')}/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
        )
        at = max((one.get("upload-time") or "" for one in fetch(request)["files"]), default="")
        return datetime.fromisoformat(at) if at else None

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return dict(zip(names, pool.map(newest, names), strict=True))


def judge_uploads(uploads: Mapping[str, datetime | None], *, now: datetime) -> list[Finding]:
    """Packages whose newest release is old."""
    return [
        Finding(f"{name}: no release since {at:%Y-%m-%d}", is_wrong=False)
        for name, at in uploads.items()
        if at is not None and now - at > RELEASED_WITHIN
    ]


def direct_names(project: Mapping[str, Any]) -> list[str]:
    """What the project names itself, for the board and other extras too."""
    extras = project["optional-dependencies"].values()
    named = [Requirement(text).name for texts in (project["dependencies"], *extras) for text in texts]
    return [name for name in dict.fromkeys(named) if name != project["name"]]


def fetch_json(request: urllib.request.Request) -> Any:
    """The JSON of an answer."""
    with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310 - https, above
        return json.loads(answer.read())


def audit(fetch: Fetch, *, index: str, now: datetime) -> Audit:
    """Everything that was looked at, found, and could not be looked at."""
    parts = json.loads(BILL.read_text())["components"]
    direct = direct_names(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])
    told = Audit([*judge_licences(parts), *judge_status(part["name"] for part in parts)], [], [])
    told.seen.append(f"licences of {len(parts)} packages")
    try:
        told.found.extend(find_vulnerabilities(parts, fetch))
        told.seen.append(f"vulnerabilities of {len(parts)}")
    except (OSError, ValueError, KeyError) as error:
        told.unseen.append(f"vulnerabilities could not be looked at: {str(error)[:200]}")
    try:
        uploads = find_uploads(direct, fetch, index=index)
    except (OSError, ValueError, KeyError) as error:
        told.unseen.append(f"releases could not be looked at: {str(error)[:200]}")
    else:
        told.found.extend(judge_uploads(uploads, now=now))
        mute = [name for name, at in uploads.items() if at is None]
        told.seen.append(f"releases of {len(direct) - len(mute)} that we name ourselves")
        if mute:
            told.unseen.append(f"the index does not say when these were released: {', '.join(mute)}")
    return told


def main(arguments: list[str], *, fetch: Fetch = fetch_json, index: str = "") -> int:
    """The exit code."""
    if arguments not in ([], ["--strict"]):
        sys.stderr.write("usage: python -m tools.audit [--strict]\n")
        return 2
    from pip._internal.models.index import PyPI

    told = audit(fetch, index=index or PyPI.simple_url, now=SystemClock().now())
    for line in [*(one.text for one in told.found), *told.unseen]:
        sys.stderr.write(f"audit: {line}\n")
    sys.stderr.write(f"audit: looked at {', '.join(told.seen)}: {len(told.found)} found\n")
    return told.exit_code(strict=bool(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
