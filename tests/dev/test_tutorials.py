"""docs/tutorials: each is followed from its first line to its last, against a simulated tenant."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from promises import guarantee

import tutorial_commands
from m365watch.auth.refusals import REFUSALS
from m365watch.sources.management_api.responses import AUDIT_OFF_CAUSE
from tutorial_checkout import Checkout
from tutorial_devo import DevoMachine
from tutorial_machine import OWN, Machine, machine_at
from tutorial_pages import FOLDER, Fence, differing_line, parts_of, read_tutorial
from tutorial_users import AS_THE_SERVICE, GIVEN_AWAY, misplaced_lines

TUTORIALS = sorted(path.name for path in FOLDER.glob("*.md"))
ROOT = FOLDER.parents[1]
_SYSTEM = "it makes a user and starts a service of the machine"
_RESTART = "it starts a service of the machine"
NOT_RUN = {
    "README.md": ["Exchange Online PowerShell"],
    "adding-an-output.md": ["it is the tests that run it, on the whole checkout"],
    "certificate.md": [_SYSTEM, _RESTART, "it asks systemd to run a command"],
    "federated.md": ["Azure CLI", _SYSTEM, "Azure CLI", "Docker", "it takes a cluster", "GitHub Actions"],
    "many-tenants.md": [_SYSTEM],
    "secret.md": [_SYSTEM, _RESTART],
}
"""What no tutorial can try here, and why: nothing is left out in silence."""
RUN_AT_LEAST = {
    "adding-a-rule.md": 9,
    "adding-an-output.md": 10,
    "alert-at-night.md": 20,
    "certificate.md": 24,
    "coming-from-devo.md": 17,
    "federated.md": 17,
    "many-tenants.md": 14,
    "secret.md": 20,
    "tenth-tenant.md": 17,
}
"""How many blocks and clicks of a tutorial are tried."""
THE_NINE = """
```sh
sudo install -d -m 700 /srv/m365watch && cd /srv/m365watch
m365watch certificate create
```
<!-- portal: upload m365watch.cer -->
```sh
m365watch init --client-id 22222222-2222-4222-8222-222222222222 {tenants} --no-check \\
  --certificate m365watch.cer --private-key m365watch.key
```
```sh
sudo systemctl start m365watch
```
"""
"""What somebody did who has nine tenants."""
WORKED_OUT_ELSEWHERE = ("3600 s behind the server's", "the server's certificate was not accepted")
"""Beginnings that tests/health shows."""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket at which commands of m365watch wait, for all tutorials together."""
    path = tmp_path_factory.mktemp("commands") / "socket"
    words = (sys.executable, tutorial_commands.__file__, "serve", str(path))
    with subprocess.Popen(words, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield path
        finally:
            server.kill()


def follow(name: str, folder: Path, commands: Path, page: str = "", **place: Any) -> None:
    """Do all that the page says, or that part of it; `place` is what is unusual of machine and tenants."""

    async def main() -> None:
        async with machine_at(folder, commands, kind=Machine, **place) as machine:
            await machine.follow(page or read_tutorial(name))

    asyncio.run(main())


class Desk(Machine):
    """Somebody who opens the link that the demo ends with; `follow` ends it with Ctrl-C, and with code 0."""

    async def _start(self, block: Fence) -> str:
        printed = await super()._start(block)
        assert "Ctrl-C ends it):" in printed
        *_, link = printed.split()
        address = urlsplit(link)
        form = dict(parse_qsl(address.query)) | {"code": address.fragment}
        own = {"Sec-Fetch-Site": "same-origin"}
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), headers=own) as browser,
            browser.post(f"http://{address.netloc}/open", data=form) as answer,
        ):
            assert (answer.status, answer.url.path) == (200, "/alert")
            assert "<h1" in await answer.text()
        return printed


def follow_with_the_demo(name: str, folder: Path, commands: Path) -> None:
    """The same in an empty folder, with the demo's tenant, whose people are others on another day."""

    async def main() -> None:
        async with machine_at(folder, commands, kind=Desk) as machine:
            machine.folder.mkdir()
            await machine.follow(read_tutorial(name), learns_names=True)

    asyncio.run(main())


@guarantee(29)
@pytest.mark.slow
def test_the_tutorial_for_a_secret_leads_to_records(tmp_path: Path, commands: Path) -> None:
    """From the copied value to a service of systemd's, and from one secret to the next."""
    follow("secret.md", tmp_path, commands)


@guarantee(29)
@pytest.mark.slow
def test_the_tutorial_for_a_certificate_leads_to_records(tmp_path: Path, commands: Path) -> None:
    """From a new key to a service of systemd's, and from one certificate to the next."""
    follow("certificate.md", tmp_path, commands)


@guarantee(29)
@pytest.mark.slow
def test_the_tutorial_without_a_secret_leads_to_records(tmp_path: Path, commands: Path) -> None:
    """By the identity of a virtual machine, of a pod, and by another issuer's token."""
    follow("federated.md", tmp_path, commands, variables=attrgetter("identity_variables"))


def test_an_identity_of_app_service_does_as_that_of_a_machine(tmp_path: Path, commands: Path) -> None:
    """The same part of the page, where the platform says where to ask."""
    part = read_tutorial("federated.md").partition("\n## In Kubernetes")[0]
    variables = attrgetter("app_service_variables")
    follow("federated.md", tmp_path, commands, page=part, variables=variables)


@guarantee(29)
@pytest.mark.slow
def test_the_tutorial_for_many_tenants_leads_to_records_of_all(tmp_path: Path, commands: Path) -> None:
    """Three that nobody has consented in at first; they come, stay away, revoke and leave."""
    others = {
        "33333333-3333-4333-8333-333333333333": "fabrikam.example",
        "44444444-4444-4444-8444-444444444444": "adatum.example",
    }
    scenario = "behaviour: {consented: false}"
    follow("many-tenants.md", tmp_path, commands, tenants=OWN | others, scenario=scenario)


@guarantee(29)
@pytest.mark.slow
def test_the_tutorial_from_devos_collector_leads_over(tmp_path: Path, commands: Path) -> None:
    """The same file, side by side with the same Ids on both sides, and Devo filled by it alone."""

    async def main() -> None:
        async with machine_at(tmp_path, commands, kind=DevoMachine) as machine:
            with machine.prepared():
                await machine.follow(read_tutorial("coming-from-devo.md"))
                machine.devo.wait_until_over()
            assert len(machine.devo.lines) > 10

    asyncio.run(main())


@guarantee(29)
@pytest.mark.slow
def test_the_tutorial_for_the_tenth_tenant_leaves_nine_alone(tmp_path: Path, commands: Path) -> None:
    """It comes while the service runs, gets an input and an output of its own, revokes and leaves."""
    nine = {
        f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}": f"c{digit}.example"
        for digit in "134567890"
    }
    named = " ".join(f"--tenant {tenant}" for tenant in nine)
    tenth = {"aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa": "tailspin.example"}

    async def main() -> None:
        place = machine_at(tmp_path, commands, kind=Machine, tenants=nine | tenth, records_per_day=10)
        async with place as machine:
            await machine.click("the tenth tenant revokes its consent")
            before = THE_NINE.format(tenants=named)
            await machine.follow(before + read_tutorial("tenth-tenant.md"))

    asyncio.run(main())


@guarantee(29)
@pytest.mark.slow
def test_the_tutorial_for_a_night_goes_from_the_alert_to_the_handover(tmp_path: Path, commands: Path) -> None:
    """On the demo's tenant: looked into, contained, hunted for, taken back, closed, and excepted."""
    follow_with_the_demo("alert-at-night.md", tmp_path, commands)


@guarantee(29)
def test_the_tutorial_for_a_rule_leads_to_one_that_finds_something(tmp_path: Path, commands: Path) -> None:
    """Its cases are as it claims, the demo's intruder is found by it, and a collector takes it up."""

    async def main() -> None:
        async with machine_at(tmp_path, commands, kind=Machine) as machine:
            machine.write_configuration("m365watch.yaml")
            await machine.follow(read_tutorial("adding-a-rule.md"), learns_names=True)

    asyncio.run(main())


@guarantee(29)
def test_the_tutorial_for_an_output_adds_one_that_keeps_the_contract(tmp_path: Path, commands: Path) -> None:
    """Its blocks of code go into a copy of this checkout, where the contract's suite and a run use them."""

    async def main() -> None:
        async with machine_at(tmp_path, commands, kind=Checkout) as machine:
            machine.copy()
            await machine.follow(read_tutorial("adding-an-output.md"))

    asyncio.run(main())


# What the pages are made of.


@pytest.mark.parametrize("name", TUTORIALS)
def test_who_gives_the_folder_away_can_go_on(name: str) -> None:
    """Nobody but the service's user works in it from then on, and nobody is taken for root."""
    page = read_tutorial(name)

    assert misplaced_lines(page, given_away=name == "tenth-tenant.md") == []
    assert GIVEN_AWAY not in page or AS_THE_SERVICE in page.partition(GIVEN_AWAY)[2]


def test_a_line_that_the_reader_cannot_type_is_found() -> None:
    """As the pages had them: a folder that is closed, and a file that sudo looks for somewhere else."""
    page = f"""
```sh
{GIVEN_AWAY}
```
```sh
cd /srv/m365watch
m365watch status
```
```yaml
# in m365watch.yaml
```
```sh
{AS_THE_SERVICE}
cd /srv/m365watch
sudo install -D -m 600 secret /etc/m365watch/secret && rm secret
```
"""

    assert misplaced_lines(page) == [
        "cd /srv/m365watch",
        "m365watch status",
        "m365watch in m365watch.yaml",
        "sudo install -D -m 600 secret /etc/m365watch/secret",
    ]


@guarantee(29)
@pytest.mark.parametrize("name", TUTORIALS)
def test_what_is_not_run_says_why(name: str) -> None:
    """No more and no less than is known here; and a change of a page's form leaves nothing untried."""
    parts = list(parts_of(read_tutorial(name)))
    reasons = [part.reason for part in parts if isinstance(part, Fence) and part.reason]

    assert reasons == NOT_RUN.get(name, [])
    assert read_tutorial(name).count("\n```") == 2 * sum(isinstance(part, Fence) for part in parts)
    assert len(parts) - len(reasons) >= RUN_AT_LEAST.get(name, 0)


@pytest.mark.parametrize("name", TUTORIALS)
def test_nothing_is_done_that_the_reader_is_not_told(name: str) -> None:
    """A comment is seen by nobody: it marks a click that words tell of; the machine acts by commands."""
    comments = re.findall(r"<!-- (.*?) -->", read_tutorial(name), re.DOTALL)

    assert [one for one in comments if one != "another machine" and not one.startswith("portal: ")] == []


@pytest.mark.parametrize("name", TUTORIALS)
def test_every_link_of_a_tutorial_leads_somewhere(name: str) -> None:
    """To a page that is there, and to a heading in it."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", read_tutorial(name)):
        path, _, heading = target.partition("#")
        page = (FOLDER / path if path else FOLDER / name).resolve()
        assert page.is_file(), target
        assert not heading or heading in anchors_of(page.read_text(encoding="utf-8")), target


def anchors_of(page: str) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_lines_of_broken_steps_are_those_of_check() -> None:
    """Each beginning in the table is one that the product has, and the codes are known with a cure."""
    told = {f"AADSTS{one.code}: {one.cause}" for one in REFUSALS if one.fix_for("")}
    told |= {"ActivityFeed.Read is missing", AUDIT_OFF_CAUSE, *WORKED_OUT_ELSEWHERE}
    shown = re.findall(r"^\| `\w+` `([^`]+)` \|", read_tutorial("README.md"), re.MULTILINE)

    assert len(shown) >= 12
    assert [line for line in shown if line not in told] == []


def test_the_tutorials_are_found() -> None:
    """From the README, from the page on credentials, and each from the page that helps to choose."""
    assert "(docs/tutorials/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(tutorials/README.md)" in (ROOT / "docs" / "secrets.md").read_text(encoding="utf-8")
    assert [
        name for name in TUTORIALS if f"({name}" not in read_tutorial("README.md") and name != "README.md"
    ] == []


# The comparison itself.


@pytest.mark.parametrize(
    ("shown", "printed", "differing"),
    [
        ("one 1\ntwo", "one  2\ntwo", None),
        ("one\n...\nfour", "one\ntwo\nthree\nfour", None),
        ("...\nfour\n...", "one\nfour\nfive", None),
        ("one", "one\ntwo", "(the end)"),
        ("one\nthree", "one\ntwo\nthree", "three"),
        ("AADSTS90002", "AADSTS90003", "AADSTS90002"),
        ("...\nsix", "one\ntwo", "six"),
        (f"SHA-1 {'85F7418F' * 5}", f"SHA-1 {'E88AF16C' * 5}", None),
        ("AF20022", "AF20023", "AF20022"),
        ("two\none", "one\ntwo", "two"),
        ("520 records, 12 duplicates left out\n", "115 records, 1 duplicate left out\n", None),
        ("12 duplicates left out\n", "12 duplications left out\n", "12 duplicates left out"),
    ],
)
def test_a_line_that_differs_is_found(shown: str, printed: str, differing: str | None) -> None:
    """Lines follow each other as shown; `...` skips some, numbers may differ, one too, codes may not."""
    assert differing_line(shown, printed) == differing


def test_every_kind_of_block_is_accounted_for() -> None:
    """Commands, their output, configurations and units; anything else would be left untried."""
    kinds = Counter(
        part.kind
        for name in TUTORIALS
        for part in parts_of(read_tutorial(name))
        if isinstance(part, Fence) and not part.reason
    )

    assert kinds.keys() <= {"sh", "text", "yaml", "ini", "python", "diff", "json", "linq", "sql"}
    assert kinds["sh"] >= 10
