"""The application that is to carry out responses: whether it may, before the night on which it has to."""

from __future__ import annotations

from dataclasses import replace

from m365watch.config.settings import ResponseSettings, TenantSettings
from m365watch.diagnosis.reachable import claims_of, cure_of, roles_of
from m365watch.errors import CollectorError
from m365watch.preflight.credentials import Reach
from m365watch.preflight.report import Check, Checked, good, odd, skipped

SUBJECT = "response"
_CONSENT = "consent to what you mean to use, see docs/respond.md; all else stays by hand"
_OWN = "register an application of its own for detections.response: the one that collects should only read"


async def check_response(
    response: ResponseSettings | None, tenant: TenantSettings, reach: Reach
) -> list[Checked]:
    """A token for the tenant's Graph, and what can be done with it; empty where nobody is to respond over it.

    What is wrong here is a note: a run does without.
    """
    if response is None or not tenant.cloud.graph_url:
        return []
    steps = []
    if response.client_id and response.client_id == tenant.client_id:
        seen = "the application that collects is also the one that responds"
        steps.append(odd(Check.CREDENTIAL, seen, fix=_OWN, subject=SUBJECT))
    cloud = replace(tenant.cloud, audience=tenant.cloud.graph_url)
    acting = replace(tenant, client_id=response.client_id, credentials=response.credentials, cloud=cloud)
    try:
        token = await reach(acting).tokens.current()
    except CollectorError as error:
        failed = odd(Check.TOKEN, error.what, fix=cure_of(error), subject=SUBJECT)
        return [*steps, failed, skipped(Check.ROLES, Check.TOKEN, subject=SUBJECT)]
    steps.append(good(Check.TOKEN, "Entra gave a token", subject=SUBJECT))
    return [*steps, _judge_roles(roles_of(claims_of(token) or {}))]


def _judge_roles(roles: list[str]) -> Checked:
    """Which steps can be carried out, and how far; loaded only where somebody is to respond."""
    from m365watch.respond.permissions import carries_out, wishes

    able, lacking = carries_out(roles)
    wished = wishes(able, roles)
    if not lacking and not wished:
        return good(Check.ROLES, "every step that Graph can do", subject=SUBJECT)
    missing = sorted({name for names in lacking.values() for name in names})
    seen = "can do every step that Graph can do"
    if lacking:
        seen = f"can do {', '.join(able) or 'no step'}; for the others it lacks {', '.join(missing)}"
    without = "".join(f"; without {name} {what}" for name, what in wished.items())
    return odd(Check.ROLES, f"{seen}{without}", fix=_CONSENT, subject=SUBJECT)
