"""Notifications over the wire of syslog."""

from __future__ import annotations

import asyncio
import socket

import pytest
import structlog
from channels_configured import channel_of
from patience import PATIENCE_S
from structlog.testing import capture_logs

from m365watch.common.clock import SystemClock, system_random
from m365watch.common.errors import Unreachable
from m365watch.notifications.channels.syslog.syslog_sender import SyslogSender
from notify_scene import make_alert, new_of


def test_a_receiver_of_syslog_that_is_away_is_named_by_the_target() -> None:
    """Soon, as one that nothing has left for; and not as an output, with a number of Devo's, besides."""
    structlog.reset_defaults()

    async def use() -> str:
        # Bound, and nobody listens.
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
            sender = SyslogSender(
                channel_of("syslog", "sys", address="127.0.0.1", port=port),
                collector="c",
                clock=SystemClock(),
                random=system_random(1),
                reach_s=0.2,
            )
            await sender.open(last=0, position="", newest=0)
            with pytest.raises(Unreachable) as told:
                await sender.send(1, [new_of(make_alert())])
            await sender.close()
            return str(told.value)

    with capture_logs() as lines:
        said = asyncio.run(asyncio.wait_for(use(), PATIENCE_S))

    assert said.startswith("notifications sys: the connection was refused")
    assert lines == []
