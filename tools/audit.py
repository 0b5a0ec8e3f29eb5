"""Are the packages that a run is made of free to use, without known holes, and looked after?

`python -m tools.audit` says so, and what it looked at; without the network, what it could not look at. It
ends with 1 where a licence is not allowed, a package is given up by its authors, or a locked version has a
known vulnerability that `accepted_vulnerabilities.txt` does not let pass; with `--strict` also for a direct
dependency without a release in three years, and with 3 where it found nothing but could not look everywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from packaging.requirements import Requirement

from m365watch.common.clock import SystemClock
from tools.licences import is_allowed
from tools.sbom import ROOT, installed_metadata, render_sbom
from tools.vulnerabilities import (
    ACCEPTED,
    DATABASE,
    Acceptance,
    Fetch,
    Vulnerability,
    WrongLine,
    find_vulnerabilities,
    judge,
    list_idle,
    list_pins,
    read_accepted,
)

RELEASED_WITHIN = timedelta(days=3 * 365)
EXIT_FOUND, EXIT_UNSEEN = 1, 3
ANSWERS_S, ANSWERS_STRICT_S = 5.0, 30.0
"""So long all answers of the network together are waited for, whatever hangs."""
_ASKED_AT_ONCE = 8
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the audit."""

    text: str
    is_wrong: bool
    """Whether it ends the audit with 1 always, and not only a strict one."""


@dataclass(slots=True)
class Audit:
    """What was looked at, what could not be, and what was found."""

    found: list[Finding] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)

    def exit_code(self, *, strict: bool) -> int:
        """1 where something is wrong; of a strict audit also 3 where it is not known."""
        if any(one.is_wrong or strict for one in self.found):
            return EXIT_FOUND
        return EXIT_UNSEEN if strict and self.unseen else 0

    def take_vulnerabilities(
        self, known: list[Vulnerability], accepted: Sequence[Acceptance], *, today: date
    ) -> None:
        """What the database knows, but for what somebody lets pass."""
        wrong = judge(known, accepted, today=today)
        self.found.extend(Finding(text, is_wrong=True) for text in wrong)
        if wrong:
            self.noted.append(f"hint: ./dev lock; or accept it for now: {ACCEPTED.relative_to(ROOT)}")
        self.noted.extend(list_idle(known, accepted))

    def take_uploads(self, uploads: Mapping[str, datetime | None], *, now: datetime) -> None:
        """What the index knows, and of what it does not say when it was released."""
        self.found.extend(judge_uploads(uploads, now=now))
        mute = [name for name, at in uploads.items() if at is None]
        self.seen.append(f"releases of {len(uploads) - len(mute)} that we name ourselves")
        if mute:
            self.unseen.append(f"the index does not say when these were released: {', '.join(mute)}")

    @contextmanager
    def or_unseen(self, what: str, where: str) -> Iterator[None]:
        """Where there is no answer, that is a line in place of what it would have told."""
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError) as error:
            host = urllib.parse.urlsplit(where).hostname
            why = str(getattr(error, "reason", error))[:200] or "nothing in time"
            self.unseen.append(f"NOT LOOKED AT: {what}; {host} gives no answer: {why}")


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


def find_upload(name: str, fetch: Fetch, *, index: str) -> datetime | None:
    """When its newest file was uploaded (PEP 700); None where the index does not say."""
    request = urllib.request.Request(  # noqa: S310 - the index that pip is set up with
        f"{index.rstrip('/')}/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    at = max((one.get("upload-time") or "" for one in fetch(request)["files"]), default="")
    return datetime.fromisoformat(at) if at else None


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
    with urllib.request.urlopen(request, timeout=ANSWERS_STRICT_S) as answer:  # noqa: S310 - https, above
        return json.loads(answer.read())


def begin(ask: Callable[[], _T], turns: threading.Semaphore) -> Future[_T]:
    """Asks in a thread that nobody's end waits for: what hangs, a name server too, cannot be told to stop."""
    future: Future[_T] = Future()

    def answer() -> None:
        with turns:
            try:
                future.set_result(ask())
            except Exception as error:  # noqa: BLE001 - raised where the answer is wanted
                future.set_exception(error)

    threading.Thread(target=answer, daemon=True).start()
    return future


@dataclass(frozen=True, slots=True)
class Places:
    """Where is asked, and which vulnerabilities somebody has accepted."""

    database: str
    index: str
    accepted: Path = ACCEPTED


def answer_of(asked: Future[_T]) -> _T:
    """What came of it until now.

    Raises:
        OSError: nothing yet, or what `ask` raised.
    """
    return asked.result(timeout=0)


def audit(fetch: Fetch, places: Places, *, now: datetime, answers_s: float) -> Audit:
    """Everything that was looked at, found, and could not be looked at.

    Raises:
        WrongLine: a line of the accepted vulnerabilities cannot be read.
    """
    accepted = read_accepted(places.accepted.read_text(), places.accepted.name)
    parts = json.loads(render_sbom())["components"]
    direct = direct_names(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])
    pins, turns = list_pins(), threading.Semaphore(_ASKED_AT_ONCE)
    known: Future[list[Vulnerability]] = begin(
        lambda: find_vulnerabilities(pins, fetch, database=places.database), turns
    )
    uploads = {name: begin(partial(find_upload, name, fetch, index=places.index), turns) for name in direct}
    told = Audit([*judge_licences(parts), *judge_status(part["name"] for part in parts)])
    told.seen.append(f"licences of {len(parts)} packages")
    asked: list[Future[Any]] = [known, *uploads.values()]
    wait(asked, timeout=answers_s)
    with told.or_unseen("known vulnerabilities", places.database):
        told.take_vulnerabilities(answer_of(known), accepted, today=now.date())
        told.seen.append(f"vulnerabilities of {len(pins)} locked versions")
    with told.or_unseen("releases", places.index):
        told.take_uploads({name: answer_of(upload) for name, upload in uploads.items()}, now=now)
    return told


def main(
    arguments: list[str],
    *,
    fetch: Fetch = fetch_json,
    accepted: Path = ACCEPTED,
    answers_s: float = ANSWERS_S,
) -> int:
    """The exit code."""
    from pip._internal.models.index import PyPI

    parser = argparse.ArgumentParser("tools.audit", allow_abbrev=False)
    parser.add_argument("--strict", action="store_true", help="let nothing pass that is unknown or unkept")
    parser.add_argument(
        "--database", default=DATABASE, metavar="URL", help="another that answers as OSV does"
    )
    parser.add_argument("--index", default=PyPI.simple_url, metavar="URL", help="of the packages' releases")
    chosen = parser.parse_args(arguments)
    places = Places(chosen.database, chosen.index, accepted)
    answers_s = ANSWERS_STRICT_S if chosen.strict else answers_s
    try:
        told = audit(fetch, places, now=SystemClock().now(), answers_s=answers_s)
    except WrongLine as error:
        sys.stderr.write(f"audit: {error}\n")
        return EXIT_FOUND
    for line in [*(one.text for one in told.found), *told.noted, *told.unseen]:
        sys.stderr.write(f"audit: {line}\n")
    sys.stderr.write(f"audit: looked at {', '.join(told.seen)}: {len(told.found)} found\n")
    return told.exit_code(strict=chosen.strict)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
