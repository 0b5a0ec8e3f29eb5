"""Who is measured: how each is started on the same service, and how its records are counted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import msgspec

from benchmarks.downloader import FETCHES, list_days
from benchmarks.measuring import Command
from m365watch.common.clock import SystemClock
from m365watch.common.model import ContentType

_COLLECTOR = "import sys; from m365watch.cli.main import main; sys.exit(main())"
_LISTINGS = 4
_TENZIR = next(
    (
        path
        for path in (Path(sys.prefix, "tenzir", "bin", "tenzir"), Path(sys.executable).with_name("tenzir"))
        if path.exists()
    ),
    None,
)
"""Best in an environment of its own: it brings pandas, which pyarrow loads wherever it finds it."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The product of a checkout: this one, or another that it is compared with."""

    checkout: Path | None = None

    def named(self, name: str) -> str:
        """A contender of it."""
        return f"{name} of {self.checkout.name}" if self.checkout else name

    def command(self, *words: str) -> Command:
        """`m365watch` with these words, by the checkout's own libraries if it has its `.venv`."""
        if self.checkout is None:
            return Command([sys.executable, "-c", _COLLECTOR, *words])
        own = self.checkout / ".venv" / "bin" / "python"
        interpreter = str(own if own.exists() else sys.executable)
        environment = {"PYTHONPATH": str(self.checkout / "src")}
        return Command([interpreter, "-P", "-c", _COLLECTOR, *words], environment=environment)


OWN = Tree()


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a contender has left on disk."""

    records: int
    ids: int
    """Different ones."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who collects a tenant's records into a directory."""

    name: str
    command: Callable[[dict[str, Any], Path], Command]
    """Given a collector's inputs and an empty directory, what to run; who is no collector takes one input."""
    count: Callable[[Path], Delivered]
    is_here: bool = True
    """Whether it can be run on this machine."""


class _Named(msgspec.Struct):
    Id: str


def _plain(inputs: dict[str, Any], directory: Path) -> Command:
    [source] = inputs.values()
    arguments = [sys.executable, "-m", "benchmarks.downloader", str(directory)]
    return Command(arguments, stdin=json.dumps(source).encode())


def _tuned(inputs: dict[str, Any], directory: Path) -> Command:
    """The same on the collector's own HTTP stack."""
    plain = _plain(inputs, directory)
    return Command([*plain.arguments, "--tuned"], stdin=plain.stdin)


def _collector(
    output: str, *, detects: bool = False, tree: Tree = OWN
) -> Callable[[dict[str, Any], Path], Command]:
    """The product as it is: `m365watch run --once` with one output, ledger and dedup on."""

    def command(inputs: dict[str, Any], directory: Path) -> Command:
        outputs = {output: {"type": output, "config": {"directory": "out"}}}
        path = directory / "config.json"
        path.touch(mode=0o600)
        detections = {"enabled": detects}
        document = {"inputs": inputs, "outputs": outputs, "detections": detections}
        path.write_text(json.dumps(document))
        return tree.command("run", "--config", str(path), "--once", "--quiet")

    return command


def state_of(directory: Path) -> Path:
    """Where a collector has its state that was given this directory."""
    return directory / "state"


def _tenzir(inputs: dict[str, Any], directory: Path) -> Command:
    """A pipeline that lists, fetches, parses and writes; the token it is given."""
    [source] = inputs.values()
    token = _fetch_token(source)
    feed = f"{source['cloud']['management_url']}/api/v1.0/{source['credentials']['tenant_id']}/activity/feed"
    listings = [
        f"{feed}/subscriptions/content?contentType={content_type}&startTime={start:%FT%T}&endTime={end:%FT%T}"
        for content_type in ContentType
        for start, end in list_days(SystemClock().now())
    ]
    path = directory / "pipeline.tql"
    path.write_text(
        f"""
let $headers = {{Authorization: "Bearer {token}"}}
from {{listings: {json.dumps(listings)}}}
unroll listings
each parallel={_LISTINGS} {{
  from_http $this.listings, headers=$headers, paginate=(page => page.next) {{
    read_all
    this = {{next: $response.headers.NextPageUri?, listed: data.string().parse_json()}}
  }}
  unroll listed
}}
each parallel={FETCHES} {{
  from_http $this.listed.contentUri, headers=$headers {{ read_json arrays_of_objects=true }}
}}
to_file "{directory}/out.ndjson" {{ write_ndjson }}
"""
    )
    places = {
        "TENZIR_CACHE_DIRECTORY": str(directory / "cache"),
        "TENZIR_STATE_DIRECTORY": str(directory / "state"),
    }
    return Command([str(_TENZIR), "--bare-mode", "-f", str(path)], environment=places)


def _fetch_token(source: dict[str, Any]) -> str:
    credentials, cloud = source["credentials"], source["cloud"]
    form = {
        "grant_type": "client_credentials",
        "client_id": credentials["client_id"],
        "client_secret": credentials["client_secret"],
        "resource": cloud["management_url"],
    }
    url = f"{cloud['login_url']}/{credentials['tenant_id']}/oauth2/token"
    with urlopen(url, urlencode(form).encode()) as answer:
        return str(json.load(answer)["access_token"])


def _count_lines(directory: Path) -> Delivered:
    ids = set()
    records = 0
    decode = msgspec.json.Decoder(_Named).decode
    for path in directory.rglob("*.ndjson"):
        with path.open("rb") as lines:
            for line in lines:
                records += 1
                ids.add(decode(line).Id)
    return Delivered(records, len(ids))


def _count_rows(directory: Path) -> Delivered:
    import pyarrow.compute as pc
    from deltalake import DeltaTable

    ids = DeltaTable(directory / "out" / "audit").to_pyarrow_table(columns=["id"])["id"]
    return Delivered(len(ids), pc.count_distinct(ids).as_py())


def product(tree: Tree = OWN) -> tuple[Contender, ...]:
    """The collector of a checkout, with each output that is measured."""
    return (
        Contender(tree.named("files"), _collector("files", tree=tree), _count_lines),
        Contender(tree.named("lake"), _collector("lake", tree=tree), _count_rows),
        Contender(tree.named("lake, detections"), _collector("lake", detects=True, tree=tree), _count_rows),
    )


CONTENDERS = (
    Contender("plain", _plain, _count_lines),
    Contender("tuned", _tuned, _count_lines),
    *product(),
    Contender("tenzir", _tenzir, _count_lines, is_here=_TENZIR is not None),
)
