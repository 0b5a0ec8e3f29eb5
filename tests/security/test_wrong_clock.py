"""A machine's clock is days off: each record that is served comes once, and none counts as lost wrongly."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import shifted
from forked import run_forked
from patience import PATIENCE_S
from shifted import AHEAD_S

from simulated_tenant import COMMAND, forwarding, simulated

SHIFTED_CLOCK = Path(__file__).parents[2] / "tools/shifted_clock"
DAY_S = 86_400.0


@dataclass(frozen=True)
class Site:
    """A simulated tenant, and configurations that collect it."""

    folder: Path
    address: str

    def call(self, *arguments: str, ahead_s: float = 0.0) -> str:
        """What a command prints on a machine whose clock is ahead."""
        environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "200"}
        if ahead_s:
            environment |= {"PYTHONPATH": str(SHIFTED_CLOCK), AHEAD_S: str(shifted.ahead_s() + ahead_s)}
            ended = subprocess.run(
                [*COMMAND, *arguments],
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        else:
            ended = run_forked("m365watch.cli.main", *arguments, folder=self.folder, environment=environment)
        said = ended.stdout + ended.stderr
        assert "Traceback" not in said
        assert ended.returncode == 0, said
        return said

    def collect(self, config: str = "config.json", *, ahead_s: float = 0.0) -> str:
        return self.call("run", "--once", "-c", config, ahead_s=ahead_s)

    def by_way_of(self, address: str) -> str:
        """The configuration for a service that is reached by another address."""
        document = json.loads((self.folder / "config.json").read_text())
        (inputs,) = document["inputs"].values()
        inputs["cloud"] |= {"audience": self.address, "management_url": address}
        other = self.folder / "other.json"
        other.write_text(json.dumps(document))
        other.chmod(0o600)
        return other.name

    def records(self, copy: str = "copy") -> Counter[str]:
        """The records that were delivered, by what makes each one itself."""
        return Counter(
            json.dumps([json.loads(line).get(name) for name in ("Id", "CreationTime", "Operation")])
            for path in (self.folder / copy).glob("*/*.ndjson")
            for line in path.read_text(encoding="utf-8").splitlines()
        )

    def served(self) -> Counter[str]:
        """What a collector gets that begins now, with a clock that is right; later there may be more."""
        fresh = self.folder / "fresh"
        fresh.mkdir(exist_ok=True)
        (fresh / "config.json").write_bytes((self.folder / "config.json").read_bytes())
        (fresh / "config.json").chmod(0o600)
        self.collect("fresh/config.json")
        return self.records("fresh/copy")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call("status", "--json", "-c", "config.json"))
        return found

    def lost(self) -> tuple[int, float]:
        """The blobs, and the seconds of content never listed, that count as lost."""
        document = self.status()
        return document["totals"]["blobs"]["lost"], sum(one["unlisted_s"] for one in document["feeds"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A tenant with 7 days of records, of which nothing was collected yet."""
    with simulated(tmp_path, "--records-per-day", "100") as document:
        (inputs,) = document["inputs"].values()
        document["outputs"] = {"copy": {"type": "files", "config": {"directory": "copy"}}}
        (tmp_path / "config.json").write_text(json.dumps(document), encoding="utf-8")
        yield Site(tmp_path, inputs["cloud"]["management_url"])


def without_date(_path: str, headers: dict[str, str], body: bytes) -> bytes:
    """Keep the time of an answer back."""
    headers.pop("date", None)
    return body


@pytest.mark.parametrize("ahead_s", [10 * DAY_S, -10 * DAY_S, 7_200.0], ids=["ahead", "behind", "2 h ahead"])
def test_a_wrong_clock_is_named_and_costs_no_record(site: Site, ahead_s: float) -> None:
    said = site.collect(ahead_s=ahead_s)

    assert f"clock is {'ahead' if ahead_s > 0 else 'behind'}" in said
    assert "NTP" in said
    errors = [one["last_error"] for one in site.status()["feeds"] if "clock is" in one["last_error"]]
    assert len(errors) == 5

    served = site.served()
    said = site.collect()
    assert "clock is" not in said
    assert "clock is" not in json.dumps(site.status())
    assert served <= site.records()
    assert set(site.records().values()) == {1}
    assert site.lost() == (0, 0.0)


def test_what_a_clock_ahead_counted_as_lost_is_taken_back(site: Site) -> None:
    """A run that nobody tells the time, 10 days ahead: it lists the future, and misses days of content."""
    site.collect()
    with forwarding(site.address, without_date) as address:
        site.collect(site.by_way_of(address), ahead_s=10 * DAY_S)
    assert site.lost()[1] > 2 * DAY_S

    served = site.served()
    said = site.collect()

    assert "counted as lost" in said
    assert site.lost() == (0, 0.0)
    assert served <= site.records()
    assert set(site.records().values()) == {1}
    status = site.status()
    at = datetime.fromisoformat(status["at"])
    assert all(datetime.fromisoformat(one["watermark"]) <= at for one in status["feeds"])


def test_a_clock_that_was_ahead_from_the_first_run_on_hides_nothing(site: Site) -> None:
    with forwarding(site.address, without_date) as address:
        site.collect(site.by_way_of(address), ahead_s=4 * DAY_S)
    served = site.served()
    site.collect()

    assert served <= site.records()
    assert set(site.records().values()) == {1}
    assert site.lost() == (0, 0.0)
    status = site.status()
    at = datetime.fromisoformat(status["at"])
    assert all(datetime.fromisoformat(one["watermark"]) <= at for one in status["feeds"])
