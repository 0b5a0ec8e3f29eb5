"""The application that is to carry out responses: whether it may, before the night on which it has to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from m365watch.auth.permissions import claims_of, roles_of
from m365watch.auth.tokens import Tokens
from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError
from m365watch.config.models.detections import Responder
from m365watch.config.models.settings import TenantSettings
from m365watch.health.checks.access_checks import cure_of
from m365watch.health.checks.check_specs import CheckSpec
from m365watch.health.checks.credentials import Reach
from m365watch.http.client import Session
from m365watch.registry.checks import Check, Checked, good, odd, skipped

SUBJECT = "response"
_CONSENT = "consent to what you mean to use, see docs/respond.md; all else stays by hand"
_ROLE = (
    "give the application the role Privileged Authentication Administrator in the directory, or disable"
    " administrators by hand"
)
_OWN = "register an application of its own for detections.response: the one that collects should only read"


@dataclass(frozen=True, slots=True)
class ResponseMeans:
    """What the application that responds is looked at with."""

    response: Responder
    session: Session
    clock: Clock
    limit_s: float
    """How long Graph's answer may take."""


async def check_response(means: ResponseMeans | None, tenant: TenantSettings, reach: Reach) -> list[Checked]:
    """A token for the tenant's Graph, and what can be done with it; empty where nobody is to respond over it.

    What is wrong here is a note: a run does without.
    """
    if means is None or not tenant.cloud.graph_url:
        return []
    response = means.response
    steps = []
    if response.client_id and response.client_id == tenant.client_id:
        seen = "the application that collects is also the one that responds"
        steps.append(odd(Check.CREDENTIAL, seen, fix=_OWN, subject=SUBJECT))
    cloud = replace(tenant.cloud, audience=tenant.cloud.graph_url)
    acting = replace(tenant, client_id=response.client_id, credentials=response.credentials, cloud=cloud)
    tokens = reach(acting).tokens
    try:
        token = await tokens.current()
    except CollectorError as error:
        failed = odd(Check.TOKEN, error.what, fix=cure_of(error), subject=SUBJECT)
        return [*steps, failed, skipped(Check.ROLES, Check.TOKEN, subject=SUBJECT)]
    steps.append(good(Check.TOKEN, "Entra gave a token", subject=SUBJECT))
    return [*steps, await _judge_roles(means, tenant, tokens, claims_of(token) or {})]


async def _judge_roles(
    means: ResponseMeans, tenant: TenantSettings, tokens: Tokens, claims: dict[str, object]
) -> Checked:
    """Which steps can be carried out, and how far; loaded only where somebody is to respond."""
    from m365watch.response.execution.graph_permissions import STOPS_ACCOUNTS, carries_out, wishes

    roles = roles_of(claims)
    able, lacking = carries_out(roles, graph_url=tenant.cloud.graph_url)
    wished = wishes(able, roles)
    spared = ""
    if not STOPS_ACCOUNTS.isdisjoint(able):
        spared = await _why_not_administrators(means, tenant, tokens, claims)
    if not lacking and not wished and not spared:
        return good(Check.ROLES, "every step that Graph can do", subject=SUBJECT)
    missing = sorted({name for names in lacking.values() for name in names})
    seen = "can do every step that Graph can do"
    if lacking:
        seen = f"can do {', '.join(able) or 'no step'}; for the others it lacks {', '.join(missing)}"
    without = "".join(f"; without {name} {what}" for name, what in wished.items())
    fixes = [*([_CONSENT] if lacking or wished else []), *([_ROLE] if spared else [])]
    return odd(Check.ROLES, f"{seen}{without}{spared}", fix="; ".join(fixes), subject=SUBJECT)


async def _why_not_administrators(
    means: ResponseMeans, tenant: TenantSettings, tokens: Tokens, claims: Mapping[str, object]
) -> str:
    """Why no administrator can be disabled, as the end of a sentence; empty where one can."""
    from m365watch.response.execution.graph_client import GraphClient
    from m365watch.response.execution.graph_permissions import stops_administrators
    from m365watch.response.execution.step_actions import LISTED_MAX
    from m365watch.response.steps.command_escaping import guid_in

    graph = GraphClient(
        means.session.over(tenant.network),
        tenant.cloud.graph_url,
        tokens=tokens,
        clock=means.clock,
        tenant=tenant.tenant_id,
    )
    own = guid_in(str(claims.get("oid")))
    path = f"/roleManagement/directory/roleAssignments?$filter=principalId%20eq%20'{own}'"
    unknown = "; whether it can disable administrators is not known"
    try:
        async with asyncio.timeout(means.limit_s):
            given = await graph.list(path, most=LISTED_MAX) if own else None
    except TimeoutError:
        return f"{unknown}: no answer within {means.limit_s:g} s"
    except CollectorError as error:
        return f"{unknown}: {error.what}"
    if given is None:
        return f"{unknown}: its token does not say who it is"
    if stops_administrators(given):
        return ""
    return "; no administrator can be disabled: it has no role of the directory for that"


SPEC = CheckSpec(
    type="response",
    text="In each tenant: whether the application of `detections.response` gets a token, and which steps of "
    "[a response](respond.md) it can carry out.",
    ask=lambda means, tenant: check_response(means.response, tenant, means.reach),
)
