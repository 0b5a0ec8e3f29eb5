"""The unit for systemd and the image: few rights, and commands that there are."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from promises import guarantee
from typer.testing import CliRunner

from m365watch.cli.program import app
from m365watch.config.loader import load_settings

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy/m365watch.service"
IMAGE = ROOT / "deploy/Containerfile"
EXPOSURE_MAX = 1.5
"""Of 10, by `systemd-analyze security`; a service without any care has 9.6."""

IDS = {
    "M365_TENANT_ID": "1" * 8 + "-1111-4111-8111-" + "1" * 12,
    "M365_CLIENT_ID": "2" * 8 + "-2222-4222-8222-" + "2" * 12,
}


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What systemd's own tool says, installed where that can be done."""
    if shutil.which("systemd-analyze") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with (Path(tempfile.gettempdir()) / "m365watch-systemd.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", "systemd"]):
                subprocess.run(
                    ["apt-get", "-o", "DPkg::Lock::Timeout=120", *words],
                    env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                    timeout=300,
                    check=False,
                    capture_output=True,
                )
    if shutil.which("systemd-analyze") is None:
        reason = "systemd-analyze is not here, and cannot be installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return subprocess.run(
        ["systemd-analyze", *arguments], timeout=60, check=False, capture_output=True, text=True
    )


def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    """Every line is known, and the program is where the unit says."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/m365watch/bin/m365watch", "/bin/true"))

    done = analyze("verify", "--man=no", str(unit))

    assert (done.returncode, done.stderr) == (0, "")


@guarantee(27)
def test_the_service_has_few_rights() -> None:
    """By systemd's own count."""
    done = analyze("security", "--offline=true", "--no-pager", str(UNIT))

    found = re.search(r"Overall exposure level for m365watch\.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= EXPOSURE_MAX


def commands_of(image: str) -> dict[str, list[str]]:
    """What the image starts: CMD, and that of its health check."""
    return {
        name: json.loads(found)
        for name, found in re.findall(r"^ *(ENTRYPOINT|CMD) (\[.*\])$", image, re.MULTILINE)
        if name == "ENTRYPOINT" or "status" not in found
    } | {"HEALTH": json.loads(re.findall(r'CMD (\["m365watch", "status".*\])', image)[0])}


def test_what_image_and_unit_start_is_a_command_that_there_is() -> None:
    """With options that it knows."""
    commands = commands_of(IMAGE.read_text())
    [start] = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)

    assert commands["ENTRYPOINT"] == ["m365watch"]
    for words in (commands["CMD"], commands["HEALTH"][1:], shlex.split(start)[1:]):
        assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0, words


@guarantee(27)
def test_the_image_runs_as_nobody_who_owns_its_program() -> None:
    """The last stage's user is not root, and only what is kept belongs to it."""
    last = IMAGE.read_text().rpartition("\nFROM ")[2]

    assert re.findall(r"^USER (\S+)$", last, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^VOLUME (\S+)$", last, re.MULTILINE) == ["/var/lib/m365watch"]
    assert "--chown" not in last
    assert "HEALTHCHECK" in last


def test_the_image_s_base_has_a_digest() -> None:
    """There is no default, and the build ends where what is named can be moved."""
    image = IMAGE.read_text()
    [check] = re.findall(r"^RUN (case .* esac)$", image, re.MULTILINE)

    assert re.findall(r"^ARG (.*)$", image, re.MULTILINE) == ["BASE", "BASE"]
    for base, status in (("debian:trixie-slim", 1), (f"debian:trixie-slim@sha256:{'a' * 64}", 0)):
        assert subprocess.run(["sh", "-c", check], env={"BASE": base}, check=False).returncode == status


@pytest.mark.parametrize("tool", ["docker", "podman"])
def test_the_image_names_its_base_by_digest(tool: str, tmp_path: Path) -> None:
    """`./dev image` asks what the tag is now, and builds on that."""
    base = f"debian@sha256:{'b' * 64}"
    program = tmp_path / tool
    program.write_text(
        f'#!/bin/sh\ncase $1 in image) echo {base} ;; build) printf "%s\\n" "$@" ;; *) echo pulled ;; esac\n'
    )
    program.chmod(0o755)
    for name in ("sh", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))

    ran = subprocess.run(
        [ROOT / "dev", "image", "--tag", "m365watch"],
        env={"PATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )

    kind = ["--format", "docker"] if tool == "podman" else []
    words = ["build", "--build-arg", f"BASE={base}", "--file", "deploy/Containerfile", *kind]
    assert ran.stdout.splitlines() == [*words, "--tag", "m365watch", "."]


def test_the_image_s_own_configuration_is_right() -> None:
    """All that it lacks are the two ids, which the environment gives."""
    settings = load_settings(ROOT / "deploy/config.yaml", environment=IDS, for_reading=True)

    assert settings.state_directory == Path("/var/lib/m365watch/state")
    assert [one.name for one in settings.outputs] == ["lake"]


@guarantee(27)
def test_compose_gives_the_container_no_rights() -> None:
    """Read-only, no capabilities, and a volume for what is kept; the secret is a file."""
    [service] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"].values()

    assert service["read_only"] is True
    assert [place.partition(":")[::2] for place in service["tmpfs"]] == [("/tmp", "size=64m,mode=1777")]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["volumes"] == ["kept:/var/lib/m365watch"]
    assert service["secrets"] == ["m365_secret"]
    assert not any("SECRET" in name for name in service["environment"])
    assert service["ulimits"] == {"core": 0}
