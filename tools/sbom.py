"""The packages that a run is made of, as a CycloneDX bill of materials; `./dev release` writes it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from email.message import Message
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.licences import licence_of

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


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


def render_sbom(*, find: Callable[[str], Message | None] = installed_metadata) -> str:
    """The document: what the lock installs on this system and Python, with what their metadata say."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [pin for pin in read_lock(LOCK.read_text()) if pin.marker is None or pin.marker.evaluate()]
    found = {purl_of(pin): _of_this_version(pin, find) for pin in pins}
    hashes = read_hashes(LOCK.read_text())
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
        "components": [_component(pin, found[purl_of(pin)], hashes[purl_of(pin)]) for pin in pins],
        "dependencies": _dependencies(project["dependencies"], pins, found),
    }
    return json.dumps(document, indent=1) + "\n"


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


def _component(pin: Requirement, found: Message | None, hashes: list[str]) -> dict[str, object]:
    licence = licence_of(found) if found is not None else "unknown"
    is_spdx = licence not in {"BSD", "unknown"}
    return {
        "type": "library",
        "bom-ref": purl_of(pin),
        "name": canonicalize_name(pin.name),
        "version": version_of(pin),
        "purl": purl_of(pin),
        "hashes": [{"alg": "SHA-256", "content": one} for one in hashes],
        "licenses": [{"expression": licence} if is_spdx else {"license": {"name": licence}}],
    }


def _dependencies(
    direct: list[str], pins: list[Requirement], found: Mapping[str, Message | None]
) -> list[dict[str, object]]:
    """Who needs whom; what only an extra asks for is left out."""
    pinned = {canonicalize_name(pin.name): purl_of(pin) for pin in pins}

    def refs(texts: Iterable[str]) -> list[str]:
        needed = [one for one in map(Requirement, texts) if "extra" not in str(one.marker or "")]
        names = [canonicalize_name(one.name) for one in needed]
        return sorted({pinned[name] for name in names if name in pinned})

    needs = {"m365watch": refs(direct)} | {
        purl: refs(one.get_all("Requires-Dist", []) if one is not None else []) for purl, one in found.items()
    }
    return [{"ref": ref, "dependsOn": others} for ref, others in needs.items()]


def _logical_lines(text: str) -> list[str]:
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
