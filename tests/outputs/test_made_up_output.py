"""One registration: a kind of output of another package is known wherever outputs are."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer

import mailbag
from configured import YAML, Configured, editable
from m365watch.cli.options import refuse_bound
from m365watch.cli.setup.init_answers import Given, collect_answers
from m365watch.common.clock import SystemClock
from m365watch.common.errors import Defect, SettingsRefused
from m365watch.config.editor.redaction import without_secrets
from m365watch.config.loader import load_settings
from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.settings import Settings
from m365watch.config.reference import keys_below, render_reference
from m365watch.config.template import write_configuration
from m365watch.health.checks.output_checks import check_context, check_output
from m365watch.health.checks.specs.disk import check_disks, queue_bytes_needed
from m365watch.health.config_status import places_of
from m365watch.http.client import open_session
from m365watch.lake.erasure.person_matching import Person
from m365watch.outputs.factory import make_output
from m365watch.outputs.lake.spec import LakeSection
from m365watch.registry.output_specs import OUTPUTS
from m365watch.runtime.personal_data_search import search_elsewhere

OFFICE = "https://post.example"
TOKEN = "a-token-that-nobody-sees"
BAG = f'  bag: {{type: bag, config: {{office: "{OFFICE}", token: "{TOKEN}"}}}}\n'


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with OUTPUTS.register(mailbag.SPEC):
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "m365watch.yaml"
    path.write_text(YAML + BAG)
    path.chmod(0o600)
    return load_settings(path, environment={})


def alone(settings: Settings) -> Settings:
    """With no other output, and no detections."""
    return replace(settings, outputs=settings.outputs[-1:], detections=DetectionsSection())


def test_the_configuration_reads_it_and_the_collector_builds_it(settings: Settings, tmp_path: Path) -> None:
    found = settings.outputs[-1]
    assert found.name == "bag"
    assert found.folder == tmp_path / "bags"

    made = make_output(found, clock=SystemClock(), random=random.Random(), collector_name="here")
    assert isinstance(made, mailbag.Mailbag)


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ("office: 1, token: x", "outputs.bag.config.office"),
        ("token: x", "outputs.bag.config.office: is missing; give the URL of a post office"),
        ("office: o, token: x, ofice: o", 'did you mean "office"?'),
        (
            "office: o, token: x, directory: lake",
            "outputs.bag.config.directory: is in the folder of outputs.lake",
        ),
    ],
)
def test_its_mistakes_are_told(options: str, mistake: str, tmp_path: Path) -> None:
    path = tmp_path / "m365watch.yaml"
    path.write_text(f"{YAML}  bag: {{type: mailbag, config: {{{options}}}}}\n")
    path.chmod(0o600)

    with pytest.raises(SettingsRefused) as refused:
        load_settings(path, environment={})

    assert any(mistake in one for one in refused.value.mistakes), refused.value.mistakes


def test_the_check_tries_it(settings: Settings) -> None:
    async def check() -> list[str]:
        async with open_session(stall_s=5, total_s=5) as session:
            context = check_context(SystemClock(), session, limit_s=5)
            return [one.seen for one in await check_output(context, settings.outputs[-1])]

    assert asyncio.run(check()) == [f"{OFFICE} is open"]


def test_its_folder_and_its_queue_count_for_the_disk(settings: Settings) -> None:
    assert any("output bag" in step.subject for step in check_disks(settings))
    assert queue_bytes_needed(alone(settings)) == settings.queue_bytes_max


def test_it_is_no_output_without_a_state(settings: Settings) -> None:
    with pytest.raises(SettingsRefused) as refused:
        refuse_bound(alone(settings))

    assert "outputs.bag cannot do without the state" in refused.value.mistakes[0]


def test_whoever_erases_is_told_of_it(settings: Settings) -> None:
    lake = settings.outputs[0]
    assert isinstance(lake, LakeSection)
    found = search_elsewhere(settings, lake, Person(["ann@ours.example"]), progress=lambda *_: None)

    [bag] = [one for one in found if one.kind == "mailbag"]
    assert bag.place == f"output bag: bags at {OFFICE}"
    assert not bag.searched


def test_status_says_where_it_writes(settings: Settings) -> None:
    assert places_of(settings)["bag"] == f"bags at {OFFICE}"


def test_init_asks_for_its_options_and_writes_it(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    secret = tmp_path / "secret"
    secret.write_text("made up")
    secret.chmod(0o600)
    given = Given(
        out=tmp_path / "m365watch.yaml",
        tenants=["5df5e41b-0640-4fdb-bf01-49691be8e735"],
        client_id="cde3d36d-c36a-4df6-abb3-607d29e179a4",
        proof={"client_secret_file": str(secret)},
        output="bag",
        output_options=[f"office={OFFICE}"],
    )
    with pytest.raises(typer.BadParameter, match="token_file"):
        collect_answers(given, asks=False)

    given.output_options.append(f"token_file={token}")
    given.out.write_text(write_configuration(collect_answers(given, asks=False).answers))
    given.out.chmod(0o600)

    assert "# a bag for each batch" in given.out.read_text()
    assert load_settings(given.out, environment=os.environ).outputs[0].place == f"bags at {OFFICE}"


def test_the_board_offers_shows_and_keeps_it(tmp_path: Path) -> None:
    it = Configured(tmp_path, YAML + BAG)

    assert "New mailbag" in it.get("/panel/collectors/outputs").text
    new = json.loads(it.get("/api/v1/instance/editor?instance=outputs&template=mailbag").body)
    assert 'office: "<office>"' in new["panel"]["text"]
    shown = editable(it, "outputs.bag")
    assert TOKEN not in shown
    assert shown.strip() == without_secrets(BAG.partition(": ")[2]).strip()


def test_its_token_goes_to_no_other_office(tmp_path: Path) -> None:
    it = Configured(tmp_path, YAML + BAG)
    moved = editable(it, "outputs.bag").replace(OFFICE, "https://elsewhere.example")

    judged = it.review({"act": "write", "kind": "outputs", "name": "bag", "text": moved, "is_new": False})

    assert judged["can"] is False


def test_the_reference_describes_it() -> None:
    assert "## `outputs.<name>`, type mailbag or bag" in render_reference()
    assert "config.office" in [row.path for row in keys_below("outputs", "bag")]


def test_a_type_is_registered_once() -> None:
    with pytest.raises(Defect, match="knows bag already"), OUTPUTS.register(mailbag.SPEC):
        pass
