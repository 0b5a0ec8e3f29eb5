"""Signing in and out in a browser: the page can be read by everybody, and leads where it was asked for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from ports import kept_port

from browsing import AXE, THEMES, VIOLATIONS, WIDTHS, _browser
from chromium import chromium
from m365watch.board.access.local_users import Users
from m365watch.board.factory import plan_listening, serve_board
from m365watch.common.clock import SystemClock
from m365watch.config.loader import load_settings
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_batch, make_part, make_records
from signing import PASSWORD, user_named

__all__ = ["_browser"]
FILL = """
document.querySelector("#name").value = "ann";
document.querySelector("#password").value = {password};
document.querySelector(".door-form button").click();
"""


@pytest.mark.slow
def test_somebody_signs_in_sees_what_they_wanted_and_signs_out(collected: Path, tmp_path: Path) -> None:
    """At both widths, in both themes nothing is in anybody's way; what they did is in the lake at the end."""
    document = json.loads(collected.read_text()) | {"board": {"sign_in": True}}
    config = tmp_path / "m365watch.json"
    config.write_text(json.dumps(document))
    batch = make_batch(1, [make_part(make_records(10), outputs=["lake"])])
    AuditWriter(tmp_path / "lake", app_id="signing").append(batch)
    settings = load_settings(config, environment={}, for_reading=True, for_board=True)
    Users(settings.state_directory).put(user_named("ann"))

    async def act() -> None:
        stop = asyncio.Event()
        with kept_port() as port:
            listening = plan_listening(settings, f"127.0.0.1:{port}")
            serving = asyncio.create_task(serve_board(settings, listening, clock=SystemClock(), stop=stop))
            try:
                async with chromium() as browser, browser.tab() as tab:
                    await tab.open(f"{listening.url}/sign-in?next=/health")
                    for width, theme in zip(WIDTHS, THEMES, strict=True):
                        await tab.look(width, theme=theme)
                        await tab.run(AXE.read_text())
                        assert await tab.run(VIOLATIONS) == []
                        assert await tab.run("document.documentElement.scrollWidth <= innerWidth")
                    await tab.run(FILL.replace("{password}", json.dumps(PASSWORD)))
                    await tab.until("location.pathname === '/health'")
                    await tab.settled()
                    assert await tab.run("document.querySelector('.who b').innerText") == "ann"
                    await tab.click("[hx-post='/sign-out']")
                    await tab.until("location.pathname === '/sign-in'")
                    await tab.until("document.body.innerText.includes('You are signed out')")
                    assert tab.complaints == []
            finally:
                stop.set()
                await serving

    asyncio.run(act())
    told = LakeReader(tmp_path / "lake").query("SELECT action FROM board_trail ORDER BY number").rows
    assert [one for (one,) in told] == ["sign_in", "view", "sign_out"]
