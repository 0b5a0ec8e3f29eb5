"""The parts that a run is made of, as CycloneDX: `deploy/sbom.cdx.json`, made of the lock."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.licences import licence_of

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
BILL = ROOT / "deploy" / "sbom.cdx.json"
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_SPREAD_HASH = re.compile(r'{\s+("alg": "[^"]+"),\s+("content": "[^"]+")\s+}')


def read_lock(text: str) -> list[Requirement]:
    """The pinned requirements, in the lock's order; one package has two where Pythons differ."""
    return [Requirement(line.partition(" --hash")[0]) for line in _logical_lines(text)]


def read_hashes(text: str) -> dict[str, list[str]]:
    """The SHA-256 of each file that the lock lets be installed, by the package's purl, sorted."""
    return {
        purl_of(Requirement(line.partition(" --hash")[0])): sorted(_HASH.findall(line))
        for line in _logical_lines(text)
    }


def installed_metadata(name: str) -> Message | None:
    """The metadata of an installed package; None where it is not here, as on another system."""
    try:
        return metadata.metadata(name)  # type: ignore[return-value]
    except metadata.PackageNotFoundError:
        return None


def render_bill(
    *, find: Callable[[str], Message | None] = installed_metadata, before: str | None = None
) -> str:
    """The document. `before` is the one there is: of what is not installed here it is believed.

    The lock holds packages of other systems and Pythons too, and the document is the same on each.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    kept = json.loads(
        (before if before is not None else _present()) or '{"components": [], "dependencies": []}'
    )
    lock = LOCK.read_text()
    pins, hashes = read_lock(lock), read_hashes(lock)
    here = {purl_of(pin): found for pin in pins if (found := _of_this_version(pin, find)) is not None}
    licences = _licences_in(kept) | {purl: licence_of(found) for purl, found in here.items()}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "m365watch",
                "name": project["name"],
                "version": project["version"],
                "licenses": [{"expression": project["license"]}],
            }
        },
        "components": [
            _part(pin, licences.get(purl_of(pin), "unknown"), hashes[purl_of(pin)]) for pin in pins
        ],
        "dependencies": _dependencies(project["dependencies"], pins, here, kept),
    }
    return _SPREAD_HASH.sub(r"{\1, \2}", json.dumps(document, indent=1)) + "\n"


def purl_of(pin: Requirement) -> str:
    """The package and its version, as bills and databases name it."""
    return f"pkg:pypi/{canonicalize_name(pin.name)}@{version_of(pin)}"


def version_of(pin: Requirement) -> str:
    """The one version that it is pinned to."""
    [specifier] = pin.specifier
    return specifier.version


def _of_this_version(pin: Requirement, find: Callable[[str], Message | None]) -> Message | None:
    found = find(pin.name)
    return found if found is not None and found.get("Version") == version_of(pin) else None


def _part(pin: Requirement, licence: str, hashes: list[str]) -> dict[str, object]:
    is_spdx = licence not in {"BSD", "unknown"}
    part: dict[str, object] = {
        "type": "library",
        "bom-ref": purl_of(pin),
        "name": canonicalize_name(pin.name),
        "version": version_of(pin),
        "purl": purl_of(pin),
        "hashes": [{"alg": "SHA-256", "content": one} for one in hashes],
        "licenses": [{"expression": licence} if is_spdx else {"license": {"name": licence}}],
    }
    if pin.marker is not None:
        part["properties"] = [{"name": "m365watch:where", "value": str(pin.marker)}]
    return part


def _dependencies(
    direct: list[str], pins: list[Requirement], here: Mapping[str, Message], kept: Mapping[str, Any]
) -> list[dict[str, object]]:
    """Who needs whom, whatever the system: only what an extra asks for is left out."""
    pinned: dict[str, list[str]] = {}
    for pin in pins:
        pinned.setdefault(canonicalize_name(pin.name), []).append(purl_of(pin))

    def refs(texts: Iterable[str]) -> list[str]:
        asked = [one for one in map(Requirement, texts) if "extra" not in str(one.marker or "")]
        return sorted({purl for one in asked for purl in pinned.get(canonicalize_name(one.name), [])})

    known = {one["ref"]: one["dependsOn"] for one in kept["dependencies"]}
    known |= {purl: refs(found.get_all("Requires-Dist", [])) for purl, found in here.items()}
    whole = {"m365watch": refs(direct)} | {purl_of(pin): known.get(purl_of(pin), []) for pin in pins}
    return [{"ref": ref, "dependsOn": needs} for ref, needs in whole.items()]


def _present() -> str:
    return BILL.read_text() if BILL.exists() else ""


def _licences_in(bill: Mapping[str, Any]) -> dict[str, str]:
    return {
        part["purl"]: one.get("expression") or one["license"]["name"]
        for part in bill["components"]
        for one in part["licenses"]
    }


def _logical_lines(text: str) -> list[str]:
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
