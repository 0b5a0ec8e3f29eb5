"""Attempts to sign in: what they lock, what they do not, and whom a place is kept for."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.board.access.board_database import FILE_NAME
from m365watch.board.access.known_addresses import KnownAddresses
from m365watch.board.access.login_throttle import PER_ADDRESS_MAX, PERIOD_S, Attempts, block_of
from m365watch.board.access.passwords import WAITING_MAX, Crowded, Passwords
from signing import PASSWORD, QUICK


@guarantee(42)
def test_one_address_does_not_try_all_names() -> None:
    """The attempts of an address count together, an IPv6 network as one, and cost no memory."""
    attempts = Attempts()
    size = len(attempts._counts)
    for number in range(PER_ADDRESS_MAX):
        attempts.count(f"user{number}", f"2001:db8::{number:x}", now_s=0)

    assert attempts.wait_s("another", "2001:db8::ffff", now_s=0) == PERIOD_S / PER_ADDRESS_MAX
    assert attempts.wait_s("another", "2001:db8:0:1::1", now_s=0) == 0
    assert len(attempts._counts) == size
    assert block_of("::ffff:192.0.2.1") == "192.0.2.1"


def test_one_address_locks_no_name_for_others() -> None:
    """It has to wait itself before its failures are all that a name may have."""
    attempts = Attempts()
    for second in range(1_000):
        if not attempts.wait_s("ann", "192.0.2.66", now_s=second):
            attempts.count("ann", "192.0.2.66", now_s=second)

    assert attempts.wait_s("ann", "192.0.2.66", now_s=1_000) > 0
    assert attempts.wait_s("ann", "192.0.2.7", now_s=1_000) == 0


def test_a_known_address_outlives_the_board(tmp_path: Path) -> None:
    """Its file is its owner's alone; one that cannot be used costs no more than that."""
    state, path = tmp_path / "state", tmp_path / "state" / FILE_NAME
    Attempts(KnownAddresses(state)).forgive("Ann", "192.0.2.7", now_s=0)

    again = Attempts(KnownAddresses(state))
    assert again.knows("ann", "192.0.2.7", now_s=9)
    assert not again.knows("ann", "192.0.2.8", now_s=9)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("no database" * 100)
    damaged = Attempts(KnownAddresses(state))
    damaged.forgive("ann", "192.0.2.7", now_s=0)
    assert damaged.knows("ann", "192.0.2.7", now_s=9)


def test_a_place_is_kept_for_whoever_was_there() -> None:
    """However many strangers wait for their passwords to be compared."""
    passwords = Passwords(QUICK)

    async def act() -> bool:
        strangers = [asyncio.create_task(passwords.is_right("x", None)) for _ in range(WAITING_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(Crowded):
            await passwords.is_right("x", None)
        known = await passwords.is_right(PASSWORD, passwords.hashed(PASSWORD), is_known=True)
        await asyncio.gather(*strangers)
        return known

    assert asyncio.run(act())


def test_who_succeeds_is_not_held_back() -> None:
    """Only failures count."""
    attempts = Attempts()
    for _ in range(100):
        attempts.count("ann", "192.0.2.1", now_s=0)
        attempts.forgive("ann", "192.0.2.1", now_s=0)

    assert attempts.wait_s("ann", "192.0.2.1", now_s=0) == 0
