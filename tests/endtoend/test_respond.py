"""`m365watch respond --apply` and `--undo` in real processes, on a simulated Graph."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from promises import guarantee

from commands import command
from m365watch.common.clock import SystemClock
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.detection_store import DetectionState
from m365watch.response.execution.response_executor import turn_held
from m365watch.storage.database import connect
from m365watch_simulator.service.scenario import parse_scenario
from m365watch_simulator.service.server import SimulationSettings, simulator_running

ANN = "ann@contoso.example"
ROLES = [
    "RoleManagement.Read.Directory",
    "User.EnableDisableAccount.All",
    "User.Read.All",
    "User.RevokeSessions.All",
]
ALERT = "abcd" + "0" * 28
AGAIN = "\nonce a new password is given, do step 3 again: the old one may have been used meanwhile\n"


def write_settings(file: Path, document: Mapping[str, object]) -> Path:
    """The file, with these settings, its owner's alone."""
    file.write_text(json.dumps(document))
    file.chmod(0o600)
    return file


def keep_alert(state: Path, tenant: str) -> None:
    """An alert about Ann, where a collector would keep it."""
    state.mkdir(parents=True)
    alert = Alert(
        id=AlertId(ALERT),
        rule_id="i07",
        title="Attack tool or script",
        severity=Severity("high"),
        tenant=tenant,
        group=(ANN,),
        entities=(("user", ANN),),
        first_at_ms=1_795_730_400_000,
        last_at_ms=1_795_730_400_000,
        count=1,
        evidence=("r1",),
        explanation="Ann was at work with a tool.",
        contain=("revoke_sessions", "disable_account", "reset_password", "restore_mfa"),
    )
    with closing(DetectionState(state / FILE_NAME)) as kept, kept.transaction():
        kept.alerts.put(KeptAlert(alert, shown=True))


async def plan_id(words: tuple[str, ...]) -> str:
    """The id of the plan that somebody would read now."""
    found: str = json.loads((await command(*words, "--json")).out)["mark"]
    return found


@guarantee(39, 40)
@pytest.mark.slow
def test_a_response_is_asked_for_carried_out_and_taken_back(tmp_path: Path) -> None:
    """Without a terminal it refuses to ask; --yes does it, the journal tells it, --undo takes it back."""

    async def main() -> None:
        scenario = parse_scenario(json.dumps({"behaviour": {"graph_roles": ROLES}}), where="test")
        simulation = SimulationSettings(seed=5, days=0.1, records_per_day=10, live=False, scenario=scenario)
        async with simulator_running(simulation, clock=SystemClock()) as running:
            tenant = running.tenants[0]
            document = running.configuration(outputs={"lake": {"type": "lake"}})
            secret = tenant.identity.client_secret
            credentials = {"client_id": tenant.identity.client_id, "client_secret": secret}
            document["detections"] = {"response": {"credentials": credentials}}
            file = write_settings(tmp_path / "m365watch.json", document)
            keep_alert(tmp_path / "state", tenant.identity.tenant_id)
            tenant.directory.add_user(ANN)
            user = tenant.directory.users[ANN]
            words = ("respond", "abcd", "--config", str(file))

            unasked = await command(*words, "--apply")
            assert (unasked.exit_code, user["sessions"], user["accountEnabled"]) == (2, 1, True)
            for chosen in ([], ["--step", "3"]):
                blind = await command(*words, "--apply", "--yes", *chosen)
                assert (blind.exit_code, user["sessions"], user["accountEnabled"]) == (2, 1, True)
                assert "--plan ID" in blind.err
            other = await command(*words, "--apply", "--yes", "--step", "3", "--plan", "00000000")
            assert (other.exit_code, user["sessions"]) == (2, 1)
            mark = await plan_id(words)
            with turn_held(tmp_path / "state", by="bob", alert="f" * 32):
                held = await command(*words, "--apply", "--yes", "--plan", mark)
            assert (held.exit_code, held.out, user["sessions"], user["accountEnabled"]) == (4, "", 1, True)
            told, hint = held.err.splitlines()
            assert ", bob, for the alert ffffffff" in told
            assert hint.startswith("hint: wait until it has ended, or end that process if it was left at a")
            one = await command(*words, "--apply", "--yes", "--step", "3", "--plan", mark)
            assert (one.exit_code, user["sessions"], user["accountEnabled"]) == (0, 0, True)
            both = await command(*words, "--apply", "--yes", "--plan", mark)
            assert (both.exit_code, user["accountEnabled"]) == (0, False)
            assert f"1. Disable the account {ANN}: done" in both.out
            # 0 is no word for contained: the password is still the intruder's.
            assert "\n2 steps are yours, by hand: 2, 4\n" in both.out
            assert one.out.endswith(AGAIN)
            document["detections"]["spared_accounts"] = ANN
            write_settings(file, document)
            mark = await plan_id(words)
            spared = await command(*words, "--apply", "--yes", "--plan", mark)
            assert (spared.out.count("a person has to say yes"), "again" in spared.out) == (2, False)
            (tmp_path / "state" / FILE_NAME).unlink()  # as an alert that has been forgotten
            undone = await command(*words, "--undo", "--yes")
            assert (undone.exit_code, user["accountEnabled"]) == (0, True)
            again = await command(*words, "--undo", "--yes")
            assert again.out.partition("\n")[2].startswith(
                f"stays as it is: End all sessions of {ANN}\nnothing to take back"
            )
            with closing(connect(tmp_path / "state" / "responses.sqlite")) as kept:
                rows = kept.execute("SELECT line FROM response").fetchall()
            journal = "\n".join(line.decode() for (line,) in rows)
            assert journal.count('"outcome":"done"') == 3
            assert not [text for text in (one.out, one.err, both.out, journal) if secret in text]

    asyncio.run(main())
