"""What a changed configuration changes of a run: its tenants at once, and the rest with a restart. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from m365watch.config.settings import (
    DetectionSettings,
    DevoHttpSettings,
    DevoSettings,
    OutputSettings,
    ServiceSettings,
    Settings,
    SyslogSettings,
    TenantSettings,
)
from m365watch.model import Feed, TenantId
from m365watch.values import dataclass

_Reaching = tuple[TenantSettings, ServiceSettings]
"""How a feed is collected: its tenant without services, and its service."""
_GLOBALS = {
    "collector_name": "globals.name",
    "state_directory": "globals.persistence",
    "keeps_state": "globals.persistence.type",
    "debug": "globals.debug",
    "job_id": "globals.id",
    "queue_bytes_max": "globals.queue_max_size_in_mb",
    "stats_period_s": "globals.sender_stats_period_in_sec",
    "watches_configuration": "globals.watch_configuration",
    "webhook": "globals.webhook",
}
"""What holds for a whole run, by the key that it comes from."""
_DETECTIONS = {
    "packs": "packs",
    "rules_directories": "rules_directories",
    "exceptions_file": "exceptions_file",
    "risk_points": "risk_points",
    "accepted_domains": "accepted_domains",
    "enrich": "enrich",
    "response": "response",
    "targets": "notifications",
}
"""What of `detections` a run takes up, each with its key."""


@dataclass(frozen=True, slots=True)
class Change:
    """From the settings of a run to those that it can go on with."""

    settings: Settings
    """The run's own, with what could be taken up of the new ones."""
    added: tuple[TenantId, ...] = ()
    changed: tuple[TenantId, ...] = ()
    removed: tuple[TenantId, ...] = ()
    detections: tuple[str, ...] = ()
    """Keys of `detections` of which something else is taken up."""
    needs_restart: tuple[str, ...] = ()
    """What else the file says, one line for each key."""

    @property
    def text(self) -> str:
        """What was taken up, in words; empty where nothing was."""
        parts = (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        tenants = "; ".join(f"{what} {_names(tenants)}" for what, tenants in parts if tenants)
        detections = f"detections: {', '.join(self.detections)}" if self.detections else ""
        return "; ".join(filter(None, (tenants and f"tenants: {tenants}", detections)))


def plan_change(old: Settings, new: Settings) -> Change:
    """What of `new` a run with `old` can take up, and what it cannot."""
    before, wanted = _reachings(old.tenants), _reachings(new.tenants)
    detections, keys = _detections_after(old.detections, new.detections)
    waits = [*_globals_changed(old, new), *_outputs_changed(old, new)]
    if old.detections.enabled != new.detections.enabled:
        waits.append("detections.enabled is another one; needs a restart")
    after: dict[Feed, _Reaching] = {}
    for feed, (tenant, service) in wanted.items():
        reason = _waits_for(tenant, service, old)
        if reason is None:
            after[feed] = tenant, service
        else:
            waits.append(f"inputs.{tenant.input_name}: {reason}")
            # Until then it goes on as it was; a new one does not begin.
            after |= {feed: before[feed]} if feed in before else {}
    added = [feed for feed in after if feed not in before]
    removed = [feed for feed in before if feed not in after]
    changed = [feed for feed in after if feed in before and after[feed] != before[feed]]
    waits += [line for feed in changed for line in _filters_changed(after[feed], before[feed])]
    old_ids, new_ids = {one.tenant_id for one in before}, {one.tenant_id for one in after}
    moved = _ids([*added, *removed, *changed])
    return Change(
        replace(old, tenants=_tenants(after), warnings=new.warnings, detections=detections),
        added=tuple(one for one in moved if one not in old_ids),
        changed=tuple(one for one in moved if one in old_ids & new_ids),
        removed=tuple(one for one in moved if one not in new_ids),
        detections=keys,
        needs_restart=tuple(dict.fromkeys(waits)),
    )


def _detections_after(
    old: DetectionSettings, new: DetectionSettings
) -> tuple[DetectionSettings, tuple[str, ...]]:
    """What a run goes on with, and which keys of it are others; nothing of detections that are off."""
    if not (old.enabled and new.enabled):
        return old, ()
    keys = tuple(key for field, key in _DETECTIONS.items() if getattr(old, field) != getattr(new, field))
    return new, keys


def excluded_outputs(settings: Settings) -> dict[TenantId, frozenset[str]]:
    """The outputs that are not for a tenant, of each tenant that has not all."""
    every = frozenset(output.name for output in settings.outputs)
    return {one.tenant_id: every - {*one.outputs} for one in settings.tenants if one.outputs}


def _reachings(tenants: Iterable[TenantSettings]) -> dict[Feed, _Reaching]:
    return {
        Feed(tenant.tenant_id, content): (replace(tenant, services=()), service)
        for tenant in tenants
        for service in tenant.services
        if (content := service.service.content) is not None
    }


def _tenants(reachings: dict[Feed, _Reaching]) -> tuple[TenantSettings, ...]:
    """The settings of tenants whose feeds are collected so."""
    services: dict[TenantSettings, list[ServiceSettings]] = {}
    for tenant, service in reachings.values():
        services.setdefault(tenant, []).append(service)
    return tuple(replace(tenant, services=tuple(some)) for tenant, some in services.items())


def _waits_for(tenant: TenantSettings, service: ServiceSettings, running: Settings) -> str | None:
    """What of a feed's settings the running outputs do not know."""
    missing = [name for name in tenant.outputs if name not in {output.name for output in running.outputs}]
    if missing:
        return f"its output {missing[0]} is new; needs a restart"
    tag = service.override_tag
    strangers = [
        output.name
        for output in running.outputs
        if isinstance(output, _TAGGED) and tag is not None and tag not in output.tags.overrides
    ]
    if strangers:
        return f"its override_tag is new to the output {strangers[0]}; needs a restart"
    return None


def _filters_changed(new: _Reaching, old: _Reaching) -> list[str]:
    (tenant, service), (_, before) = new, old
    key = f"inputs.{tenant.input_name}.services.{service.service}"
    pairs = (
        ("size", service.bloom_filter_size, before.bloom_filter_size),
        ("buffer_size", service.bloom_filter_buffer_size, before.bloom_filter_buffer_size),
    )
    return [
        f"{key}.override_bloom_filter_{name} is another one; needs a restart"
        for name, one, other in pairs
        if one != other
    ]


_TAGGED = DevoSettings | DevoHttpSettings | SyslogSettings


def _globals_changed(old: Settings, new: Settings) -> list[str]:
    return [
        f"{key} is another one; needs a restart"
        for field, key in _GLOBALS.items()
        if getattr(old, field) != getattr(new, field)
    ]


def _outputs_changed(old: Settings, new: Settings) -> list[str]:
    before = {output.name: _without_tags(output) for output in old.outputs}
    after = {output.name: _without_tags(output) for output in new.outputs}
    found = [f"outputs.{name} is new; needs a restart" for name in after if name not in before]
    found += [f"outputs.{name} is gone; needs a restart" for name in before if name not in after]
    return found + [
        f"outputs.{name} is changed; needs a restart"
        for name, output in after.items()
        if name in before and before[name] != output
    ]


def _without_tags(output: OutputSettings) -> OutputSettings:
    """The output without what it is told of the inputs."""
    if isinstance(output, _TAGGED):
        return replace(output, tags=replace(output.tags, overrides=()))
    return output


def _ids(feeds: Iterable[Feed]) -> list[TenantId]:
    return list(dict.fromkeys(feed.tenant_id for feed in feeds))


_NAMED_MAX = 5


def _names(tenants: Sequence[TenantId]) -> str:
    more = len(tenants) - _NAMED_MAX
    return ", ".join(tenants[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
