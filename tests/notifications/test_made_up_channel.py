"""One registration: a kind of notification channel of another package is known wherever channels are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from channels_configured import sender_of
from promises import guarantee
from pydantic import SecretStr
from typer.testing import CliRunner

import pigeon
from configured import YAML, Configured
from m365watch.cli.program import app
from m365watch.common.clock import SystemClock, system_random
from m365watch.common.errors import Defect, SettingsRefused
from m365watch.config.loader import load_settings
from m365watch.config.models.kinds import section_of
from m365watch.config.models.notifications import ChannelSection
from m365watch.config.models.settings import Settings
from m365watch.config.reference import render_reference
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.health.checks.check_engine import check_notifications
from m365watch.health.event_log import list_secrets
from m365watch.http.client import open_session
from m365watch.lake.erasure.person_matching import Person
from m365watch.notifications.notification import Standing
from m365watch.notifications.notification_policy import decide
from m365watch.outputs.factory import refuse_to_make
from m365watch.outputs.lake.spec import LakeSection
from m365watch.registry.channel_specs import CHANNELS, ChannelContext
from m365watch.registry.checks import Verdict
from m365watch.runtime.personal_data_search import search_elsewhere
from notify_scene import START_MS, make_alert
from tools import channels_quoted

TOKEN = "a-token-that-nobody-sees"


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with CHANNELS.register(pigeon.SPEC):
        yield


def written(folder: Path, options: str = f"loft: roof, token: {TOKEN}", kind: str = "pigeon") -> Path:
    """A configuration with such a channel."""
    path = folder / "m365watch.yaml"
    channel = f"{{type: {kind}, {options}}}"
    path.write_text(f"{YAML}detections: {{notifications: {{coo: {channel}}}}}\n")
    path.chmod(0o600)
    return path


def loaded(path: Path) -> Settings:
    return load_settings(path, environment={})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return loaded(written(tmp_path))


@pytest.mark.parametrize("kind", ["pigeon", "dove"])
def test_the_configuration_reads_it_and_the_collector_builds_it(kind: str, tmp_path: Path) -> None:
    [found] = loaded(written(tmp_path, kind=kind)).detections.channels

    assert (found.name, found.type) == ("coo", kind)
    assert (found.section.loft, found.section.rate_limit_per_minute) == ("roof", 2)
    assert isinstance(sender_of(found), pigeon.PigeonSender)


@pytest.mark.parametrize(
    ("kind", "options", "mistake"),
    [
        ("pigeon", "token: x", ".loft: is missing; give the name of a loft"),
        ("pigeon", "loft: 1, token: x", ".loft: 1 (whole number) is of the wrong kind"),
        ("pigeon", "loft: l, token: x, lofft: l", '.lofft: unknown key; did you mean "loft"?'),
        ("dove", "loft: l, token: x, flies: by night", ".flies: is not for a dove; give by day"),
        ("pigeons", "loft: l, token: x", "output, pagerduty, pigeon (or dove), slack"),
        ("pigeon", "loft: l, token: x, token_file: y", ".token: is given beside token_file"),
    ],
)
def test_its_mistakes_are_told(kind: str, options: str, mistake: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused) as refused:
        loaded(written(tmp_path, options, kind))

    assert any(mistake in one for one in refused.value.mistakes), refused.value.mistakes


def test_what_is_odd_about_it_is_a_warning(tmp_path: Path) -> None:
    settings = loaded(written(tmp_path, "loft: l, token: x, flies: by night"))

    assert "detections.notifications.coo.flies: loses some to owls" in settings.warnings


@guarantee(24)
def test_its_secret_comes_from_a_file_and_is_blotted_out(tmp_path: Path) -> None:
    secret = tmp_path / "ring"
    secret.write_text(TOKEN)
    secret.chmod(0o600)
    settings = loaded(written(tmp_path, "loft: l, token_file: ring"))

    assert settings.detections.channels[0].section.token.get_secret_value() == TOKEN
    assert TOKEN in list_secrets(settings)
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize("loft", ["roof", "closed"])
def test_the_check_tries_it(loft: str, tmp_path: Path) -> None:
    settings = loaded(written(tmp_path, f"loft: {loft}, token: x"))

    async def check() -> list[tuple[str, Verdict, str, str | None]]:
        async with open_session(stall_s=5, total_s=5) as session:
            context = ChannelContext(session, SystemClock(), system_random(1), "c", (), refuse_to_make)
            found = await check_notifications(settings, context, limit_s=5)
            return [(one.subject, one.verdict, one.seen, one.fix) for one in found]

    wanted = {
        "roof": ("coo", Verdict.OK, "roof is open", None),
        "closed": ("coo", Verdict.BROKEN, "the loft is closed", "open it"),
    }
    assert asyncio.run(check()) == [wanted[loft]]


def test_a_test_by_hand_goes_to_it_with_its_end(tmp_path: Path) -> None:
    pigeon.FLOWN.clear()
    arguments = ["alerts", "notify", "--test", "--json", "--config", str(written(tmp_path))]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)

    [target] = json.loads(result.stdout)["targets"]
    assert (target["name"], target["type"], target["ok"]) == ("coo", "pigeon", True)
    assert pigeon.FLOWN == ["new", "closed"]


def test_its_own_way_with_alerts_is_kept(settings: Settings) -> None:
    [channel] = settings.detections.channels
    closed = Standing(make_alert(), AlertState.CLOSED)

    assert decide(None, closed, channel.section, now_ms=START_MS) is not None


def test_whoever_erases_is_told_of_it(settings: Settings) -> None:
    lake = settings.outputs[0]
    assert isinstance(lake, LakeSection)
    found = search_elsewhere(settings, lake, Person(["ann@ours.example"]), progress=lambda *_: None)

    [slip] = [one for one in found if one.kind == "channel_pigeon"]
    assert (slip.place, slip.searched) == ("channel coo", False)
    assert slip.says == pigeon.SPEC.erasure


def test_the_board_shows_it(tmp_path: Path) -> None:
    it = Configured(tmp_path, written(tmp_path).read_text())

    assert "coo" in it.get("/panel/health/notifications").text


def test_the_documentation_describes_it() -> None:
    reference = render_reference()
    _, _, own = reference.partition("## `detections.notifications.<name>`, type pigeon or dove\n")

    assert "| `loft` | the name of a loft | **required** | Where pigeons fly to. |" in own
    assert "| `rate_limit_per_minute` | a whole number, 1 to 6,000 | `2` |" in own
    assert "`min_severity`" not in own.partition("\n## ")[0]
    assert "| `pigeon` | a slip of paper | a loft |\n" in channels_quoted.render()


def test_a_secret_under_a_key_that_messages_show_is_refused() -> None:
    class Leaky(ChannelSection):
        ring: SecretStr

    with pytest.raises(Defect, match="messages would show the secret of ring"):
        section_of(replace(pigeon.SPEC, section=Leaky), ChannelSection)


def test_a_type_is_registered_once() -> None:
    with pytest.raises(Defect, match="knows dove already"), CHANNELS.register(pigeon.SPEC):
        pass
