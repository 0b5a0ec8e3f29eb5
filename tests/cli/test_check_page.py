"""What `check` shows of its groups, on a terminal and elsewhere."""

from __future__ import annotations

import re

import pytest

from m365watch.cli.setup.check_view import Page, summary_line
from m365watch.common.errors import SettingsRefused
from m365watch.health.checks.check_engine import Progress, refused
from m365watch.registry.checks import (
    Check,
    Checked,
    Group,
    Place,
    Preflight,
    Verdict,
    bad,
    good,
    odd,
    skipped,
)

TOKEN = bad(Check.TOKEN, "AADSTS7000222: expired", fix="create another", subject="client_secret")
ROLES = skipped(Check.ROLES, Check.TOKEN)


def tenant(number: int, *steps: Checked) -> Group:
    return Group(Place.TENANT, f"tenant-{number}", steps)


def shown(*groups: Group, only_broken: bool = False) -> None:
    page = Page(shows_groups=True)
    page.only_broken = only_broken
    page.show_all(Preflight(list(groups)))


def test_a_pipe_gets_words_and_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """However long they are: programs read them."""
    long = good(Check.TENANT, "x" * 300)
    shown(tenant(1, long, TOKEN, ROLES))

    assert capsys.readouterr().out.splitlines() == [
        "tenant tenant-1",
        f"ok      tenant        {'x' * 300}",
        "broken  token         client_secret: AADSTS7000222: expired",
        "  hint: create another",
        "skipped roles         waits for token",
    ]


def test_steps_that_wait_for_one_and_the_same_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration that cannot be read is one mistake, and not nineteen lines more; the sums have all."""
    mistake = SettingsRefused(["there is no such file"], where="none.yaml", fix="do it")
    preflight = refused(mistake)
    Page(shows_groups=True).show_all(preflight)
    shown(tenant(1, TOKEN, ROLES, skipped(Check.AUDIT, Check.TOKEN)))

    assert capsys.readouterr().out.splitlines() == [
        "this machine",
        "broken  configuration none.yaml: there is no such file",
        "  hint: do it",
        f"skipped permissions   waits for configuration; so do the {len(Check) - 2} steps after it",
        "tenant tenant-1",
        "broken  token         client_secret: AADSTS7000222: expired",
        "  hint: create another",
        "skipped roles         waits for token; so does the step after it",
    ]
    assert summary_line(preflight).endswith(f"1 broken, {len(Check) - 1} skipped")


def test_a_terminal_gets_marks_and_colour(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """✔, ! and ✘ at the head of each line."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown(tenant(1, good(Check.TENANT, "fine"), odd(Check.ROLES, "odd"), TOKEN))
    out = capsys.readouterr().out

    assert [mark in out for mark in ("✔", "!", "✘")] == [True, True, True]
    assert "\x1b[" in out


def test_a_long_line_goes_on_below_where_it_began_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between words; what is to be copied, the hint, stays one line, and so does all in a pipe."""
    long = odd(Check.TOKEN, "word " * 20, fix="do " * 40, subject="client_secret")
    shown(tenant(1, long))
    piped = capsys.readouterr().out.splitlines()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    shown(tenant(1, long))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()

    assert lines[1:-1] == [
        f"! token         client_secret: {' '.join(['word'] * 6)}",
        *(f"                {' '.join(['word'] * number)}" for number in (9, 5)),
    ]
    assert lines[-1] == f"  hint: {'do ' * 40}"
    assert len(piped) == 3


def test_one_hint_serves_steps_in_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Five subscriptions that a run starts need it once."""
    missing = [odd(Check.SUBSCRIPTIONS, "missing", fix="start", subject=str(one)) for one in range(5)]
    shown(tenant(1, *missing, odd(Check.LISTING, "none", fix="wait")))
    lines = capsys.readouterr().out.splitlines()

    assert [line for line in lines if "hint" in line] == ["  hint: start", "  hint: wait"]


def test_of_many_tenants_only_what_is_broken_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Tenants that are in order are counted."""
    groups = [tenant(number, good(Check.TOKEN, "fine"), odd(Check.ROLES, "odd")) for number in range(499)]
    shown(*groups, tenant(499, good(Check.TENANT, "fine"), TOKEN, ROLES), only_broken=True)

    assert capsys.readouterr().out.splitlines() == [
        "tenant tenant-499",
        "broken  token         client_secret: AADSTS7000222: expired",
        "  hint: create another",
    ]


def test_what_others_say_cannot_play_with_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor fill it."""
    shown(tenant(1, bad(Check.TOKEN, "\x1b[2J" + "y" * 9_999, fix="\x07mend", subject="\nz")))
    out = capsys.readouterr().out

    assert len(out.splitlines()) == 3
    assert "\x1b" not in out
    assert "\x07" not in out
    assert len(out) < 1_000


def test_the_sums_tell_steps_and_tenants() -> None:
    """Notes alone keep no run from working, and that is said."""
    fine = tenant(1, good(Check.TOKEN, "fine"), odd(Check.ROLES, "odd"))
    both = Preflight([fine, tenant(2, TOKEN, ROLES)])

    assert summary_line(Preflight([fine])) == (
        "nothing is broken (notes keep no run from working): 1 ok, 1 note, 0 broken, 0 skipped"
    )
    assert summary_line(both) == (
        "something is broken: 1 ok, 1 note, 1 broken, 1 skipped; 2 tenants, 1 of them broken"
    )
    assert both.counts[Verdict.SKIPPED] == 1


def test_the_sums_tell_tenants_that_were_not_tried() -> None:
    """Behind a network that leads nowhere none is broken, and none is fine."""
    network = Group(Place.NETWORK, steps=(bad(Check.TLS, "the proxy cannot be reached", fix="mend it"),))
    waiting = [tenant(number, skipped(Check.TOKEN, Check.TLS)) for number in range(2)]

    assert summary_line(Preflight([network, *waiting])) == (
        "something is broken: 0 ok, 0 note, 1 broken, 2 skipped; 2 tenants, 0 of them broken, 2 not tried"
    )


def test_what_is_under_way_fits_a_line() -> None:
    """Two of them are named."""
    under_way = {f"tenant {number}": "token" if number else "" for number in range(12)}

    assert Progress(503, 40, under_way).words == ("40 of 503 done: tenant 0; tenant 1, token and 10 more")
    assert Progress(4, 3).words == "3 of 4 done: the rest"
