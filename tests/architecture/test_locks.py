"""The lock files hold what pyproject.toml asks for, with hashes, and no place to get it from."""

from __future__ import annotations

import re
import tomllib
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from promises import guarantee

from sources import ROOT

LOCKS = tuple(f"requirements{which}.lock" for which in ("", "-build", "-dev", "-bench", "-pip"))


@cache
def read_lock(name: str) -> list[Requirement]:
    """The pinned requirements of a lock file."""
    logical = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    return [Requirement(line.partition(" --hash")[0]) for line in logical if line.strip()]


@cache
def read_wanted(lock: str) -> list[Requirement]:
    """What pyproject.toml asks for in that lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    group = re.fullmatch(r"requirements-(\w+)\.lock", lock)
    texts = project["dependency-groups"][group.group(1)] if group else project["project"]["dependencies"]
    return [Requirement(text) for text in texts]


@guarantee(27)
@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_is_fresh(lock: str) -> None:
    """Every requirement is pinned to a version that satisfies it; if not, run ./dev lock."""
    assert [
        str(wanted)
        for wanted in read_wanted(lock)
        if not any(
            canonicalize_name(pinned.name) == canonicalize_name(wanted.name) and pin_satisfies(pinned, wanted)
            for pinned in read_lock(lock)
        )
    ] == []


def pin_satisfies(pinned: Requirement, wanted: Requirement) -> bool:
    """Whether the one version that `pinned` names is among those that `wanted` allows."""
    [specifier] = pinned.specifier
    return specifier.operator == "==" and wanted.specifier.contains(specifier.version)


@guarantee(27)
@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_has_hashes_and_no_host(lock: str) -> None:
    """The installing machine says where packages come from; the hashes say that they are the same."""
    text = (ROOT / lock).read_text()
    pins = text.replace("\\\n", " ").splitlines()

    assert "://" not in text
    assert [line for line in pins if "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("lock", LOCKS[1:])
def test_the_locks_agree(lock: str) -> None:
    """They are installed on top of each other: what the runtime has is not exchanged by another."""
    runtime = list_versions(LOCKS[0])

    assert {
        name: versions
        for name, versions in list_versions(lock).items()
        if name in runtime and not versions <= runtime[name]
    } == {}


def list_versions(lock: str) -> dict[str, set[str]]:
    """The versions of each package; one that no longer serves an old Python has two."""
    versions: dict[str, set[str]] = {}
    for pinned in read_lock(lock):
        versions.setdefault(pinned.name, set()).add(str(pinned.specifier))
    return versions
