"""Which locked packages have known vulnerabilities, and which of those are accepted, why and until when."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.sbom import ROOT, purl_of, read_lock, version_of

DATABASE = "https://api.osv.dev/v1/querybatch"
"""Of the database that gathers the advisories of PyPI, GitHub and others; asked with names and versions."""
ACCEPTED = ROOT / "tools" / "accepted_vulnerabilities.txt"
_LINE = re.compile(r"(?P<id>\S+) (?P<package>\S+) until (?P<until>\d{4}-\d\d-\d\d): (?P<why>\S.*)")
_PAGES_MAX = 10

Fetch = Callable[[urllib.request.Request], Any]
"""Gives the JSON of an answer; raises OSError or ValueError where there is none."""


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One that the database knows of exactly this version."""

    id: str
    package: str
    version: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What somebody has looked at and lets pass until the end of a day."""

    id: str
    package: str
    until: date
    why: str


class WrongLine(Exception):
    """A line of the accepted ones cannot be read; the text says which, and how it should be."""


def list_pins(root: Path = ROOT) -> list[Requirement]:
    """Each package and version of the lock files, once."""
    pins = [pin for lock in sorted(root.glob("requirements*.lock")) for pin in read_lock(lock.read_text())]
    return list({purl_of(pin): pin for pin in pins}.values())


def find_vulnerabilities(pins: Sequence[Requirement], fetch: Fetch, *, database: str) -> list[Vulnerability]:
    """The known ones of exactly these versions.

    Raises:
        OSError: the database is not reached.
        ValueError, KeyError, TypeError: it answers something else than its own format.
    """
    found: list[Vulnerability] = []
    asked = [(pin, {"package": {"purl": purl_of(pin)}}) for pin in pins]
    for _ in range(_PAGES_MAX):
        if not asked:
            return found
        results = fetch(_question([query for _, query in asked], database))["results"]
        more = []
        for (pin, query), answer in zip(asked, results, strict=True):
            name, known = canonicalize_name(pin.name), answer or {}
            found += [Vulnerability(one["id"], name, version_of(pin)) for one in known.get("vulns", [])]
            if token := known.get("next_page_token"):
                more.append((pin, query | {"page_token": token}))
        asked = more
    raise ValueError(f"the answer has more than {_PAGES_MAX} pages")


def read_accepted(text: str, name: str) -> list[Acceptance]:
    """The accepted ones of the file of that name.

    Raises:
        WrongLine: a line lacks its last day or its reason.
    """
    return [
        _acceptance(line.strip(), f"{name}, line {number}")
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    ]


def judge(found: Iterable[Vulnerability], accepted: Sequence[Acceptance], *, today: date) -> list[str]:
    """A line for each vulnerability that nobody has accepted, or not for so long."""
    by_name = {(one.id, one.package): one for one in accepted}
    told = []
    for one in found:
        acceptance = by_name.get((one.id, one.package))
        if acceptance is None:
            told.append(_named(one))
        elif acceptance.until < today:
            told.append(f"{_named(one)}, accepted until {acceptance.until} only")
    return told


def list_idle(found: Iterable[Vulnerability], accepted: Iterable[Acceptance]) -> list[str]:
    """A line for each acceptance of what no locked version has any more."""
    known = {(one.id, one.package) for one in found}
    return [
        f"{one.id} of {one.package} is accepted and not known of the locked version: take out its line"
        for one in accepted
        if (one.id, one.package) not in known
    ]


def _named(one: Vulnerability) -> str:
    return f"{one.package} {one.version}: known vulnerability {one.id}"


def _question(queries: list[dict[str, Any]], database: str) -> urllib.request.Request:
    return urllib.request.Request(  # noqa: S310 - https, or what its caller names
        database, data=json.dumps({"queries": queries}).encode(), headers={"Content-Type": "application/json"}
    )


def _acceptance(line: str, where: str) -> Acceptance:
    form = "ID PACKAGE until YYYY-MM-DD: why"
    if (read := _LINE.fullmatch(line)) is None:
        raise WrongLine(f"{where}: write `{form}`")
    try:
        until = date.fromisoformat(read["until"])
    except ValueError as error:
        raise WrongLine(f"{where}: {read['until']} is no day; write `{form}`") from error
    return Acceptance(read["id"], canonicalize_name(read["package"]), until, read["why"])
