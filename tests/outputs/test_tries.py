from __future__ import annotations

from m365watch.common.backoff import PAUSE_FIRST_S, PAUSE_MAX_S, Tries


def pauses(tries: Tries, count: int, *, after_s: float | None = None) -> list[float | None]:
    """The answers to so many failures, each met when the pause before it was over."""
    now_s, found = 1000.0, list[float | None]()
    for _ in range(count):
        pause_s = tries.failed(now_s, after_s=after_s)
        found.append(pause_s)
        now_s += pause_s or 0.0
    return found


def test_pauses_double_up_to_a_bound() -> None:
    """An output that is down for hours is asked once a minute."""
    assert pauses(Tries(None), 9) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, PAUSE_MAX_S, PAUSE_MAX_S]


def test_success_begins_anew() -> None:
    """Neither the pause nor the patience counts what was before it."""
    tries = Tries(5.0)
    pauses(tries, 3)

    tries.succeeded()

    assert tries.failed(9000.0, after_s=None) == PAUSE_FIRST_S


def test_the_last_try_is_at_the_end_of_the_patience() -> None:
    """No pause goes beyond it, and there is none after it."""
    assert pauses(Tries(5.0), 5) == [0.5, 1.0, 2.0, 1.5, None]


def test_what_an_output_asks_for_is_waited_for() -> None:
    """As far as the patience allows."""
    assert pauses(Tries(None), 2, after_s=90.0) == [90.0, 90.0]
    assert pauses(Tries(30.0), 2, after_s=90.0) == [30.0, None]


def test_patience_can_be_lost() -> None:
    """The next failure is the last, however little time has passed."""
    tries = Tries(600.0)

    tries.lose_patience()

    assert tries.failed(0.0, after_s=None) is None
