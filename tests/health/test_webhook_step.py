"""Whether a run could listen for notifications, tried without one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ports import kept_port
from pydantic import SecretStr

from m365watch.config.models.settings import Settings
from m365watch.config.models.webhook import WebhookSection
from m365watch.health.checks.specs.webhook import check_webhook
from m365watch.ledger.lock import LOCK_FILE, LedgerLock
from m365watch.registry.checks import Verdict
from m365watch_testing.certificates import Authority


def settings_with(folder: Path, webhook: WebhookSection | None) -> Settings:
    return Settings(
        path=folder / "m365watch.json",
        collector_name="c",
        state_directory=folder,
        debug=False,
        tenants=(),
        outputs=(),
        warnings=(),
        webhook=webhook,
    )


def webhook_at(port: int) -> WebhookSection:
    return WebhookSection(
        address="https://hook.example/told", listen=f"127.0.0.1:{port}", auth_id=SecretStr("x" * 20)
    )


def test_there_is_no_step_without_webhook_mode(tmp_path: Path) -> None:
    """Nothing listens then."""
    assert check_webhook(settings_with(tmp_path, None)) == []


def test_a_port_that_can_be_had_is_given_back(tmp_path: Path) -> None:
    """Looking changes nothing: it can be had again."""
    with kept_port() as port:
        for _ in range(2):
            [step] = check_webhook(settings_with(tmp_path, webhook_at(port)))
            assert step.verdict is Verdict.OK
            assert "https://hook.example/told has to lead there" in step.seen


def test_a_port_that_is_taken_is_broken_unless_a_collector_runs(tmp_path: Path) -> None:
    """It is that collector's, it seems; otherwise another program has it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = settings_with(tmp_path, webhook_at(taken.getsockname()[1]))
        [step] = check_webhook(settings)
        assert (step.verdict, bool(step.fix)) == (Verdict.BROKEN, True)
        lock = LedgerLock(tmp_path / LOCK_FILE)
        lock.acquire()
        try:
            [step] = check_webhook(settings)
        finally:
            lock.release()
        assert step.verdict is Verdict.NOTE


@pytest.mark.parametrize("is_of_another", [True, False])
def test_a_certificate_that_cannot_be_used_is_broken(tmp_path: Path, is_of_another: bool) -> None:
    """A key of another certificate, or a file that is none."""
    authority = Authority(tmp_path)
    one, other = authority.issue("one"), authority.issue("other")
    usual = webhook_at(0).model_copy(update={"certificate_file": one.cert, "private_key_file": one.key})
    wrong = usual.model_copy(
        update={"private_key_file": other.key if is_of_another else tmp_path / "absent.pem"}
    )

    [good] = check_webhook(settings_with(tmp_path, usual))
    [bad] = check_webhook(settings_with(tmp_path, wrong))
    assert (good.verdict, bad.verdict) == (Verdict.OK, Verdict.BROKEN)
    assert "certificate cannot be used" in bad.seen
