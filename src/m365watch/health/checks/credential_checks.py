"""The judgement on a token that was given: how long the credential behind it still lasts."""

from __future__ import annotations

from datetime import datetime

from m365watch.config.models.settings import Settings, TenantSettings
from m365watch.health.expiry.credential_expiry import judge
from m365watch.health.expiry.expiry_store_standing import known_now
from m365watch.health.expiry.expiry_text import cure_of, expiry_text
from m365watch.ledger.sqlite import LEDGER_FILE
from m365watch.registry.checks import Finding, Step, note, ok


def judge_token(settings: Settings, tenant: TenantSettings, now: datetime) -> Finding:
    """That Entra gave a token, and whether a credential of the application expires soon; reads files."""
    known = known_now(tenant, settings.state_directory / LEDGER_FILE)
    near = [one for one in judge(known.credentials, now) if one.threshold is not None]
    if not near:
        return ok(Step.TOKEN, "Entra gave one")
    soonest = min(near, key=lambda one: one.days_left or 0.0)
    return note(Step.TOKEN, f"Entra gave one; {expiry_text(known, soonest)}", fix=cure_of(known, soonest))
