"""Processes that begin at the same time do not each compile a fresh checkout."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from collecting import NOTED_LAST, first_alone, without_looking_for_garbage
from patience import PATIENCE_S

SOON_S = 0.2


def collect(root: Path) -> None:
    with first_alone(root):
        pass


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh checkout, in which this is a worker."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    (tmp_path / "pyproject.toml").touch()
    return tmp_path


def test_in_a_fresh_checkout_the_others_wait_for_the_first(root: Path) -> None:
    """They find what it has written, and go on together."""
    with ThreadPoolExecutor(1) as other:
        with first_alone(root):
            waits = other.submit(collect, root)
            with pytest.raises(TimeoutError):
                waits.result(timeout=SOON_S)
            (root / NOTED_LAST).mkdir(parents=True)

        waits.result(timeout=PATIENCE_S)


def test_in_any_other_all_collect_at_once(root: Path) -> None:
    (root / NOTED_LAST).mkdir(parents=True)

    with ThreadPoolExecutor(1) as other, first_alone(root):
        other.submit(collect, root).result(timeout=PATIENCE_S)


def test_the_first_may_fail(root: Path) -> None:
    """The next one is the first then."""
    with pytest.raises(ZeroDivisionError), first_alone(root):
        raise ZeroDivisionError

    collect(root)


def test_who_is_alone_waits_for_nobody(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(1) as other, first_alone(root):
        monkeypatch.delenv("PYTEST_XDIST_WORKER")
        other.submit(collect, root).result(timeout=PATIENCE_S)


def test_garbage_is_looked_for_again_afterwards() -> None:
    """What was made until then is left alone."""
    gc.unfreeze()
    with without_looking_for_garbage():
        looks = gc.isenabled()

    assert not looks
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
