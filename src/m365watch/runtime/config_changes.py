"""What a changed configuration changes of a run: its tenants at once, the rest by building it anew. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from m365watch.common.model import Feed, TenantId
from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.settings import ServiceSettings, Settings, TenantSettings

_Reaching = tuple[TenantSettings, ServiceSettings]
"""How a feed is collected: its tenant without services, and its service."""
_GLOBALS = {
    "collector_name": "globals.name",
    "debug": "globals.debug",
    "job_id": "globals.id",
    "answer_bytes_max": "globals.answer_megabytes_max",
    "queue_bytes_max": "globals.queue_max_size_in_mb",
    "stats_period_s": "globals.sender_stats_period_in_sec",
    "watches_configuration": "globals.watch_configuration",
    "webhook": "globals.webhook",
}
"""What a collector has from its beginning, by the key that it comes from."""
_STATE = {"state_directory": "globals.persistence", "keeps_state": "globals.persistence.type"}
"""What holds for a whole run: it is one ledger's."""
_DETECTIONS = {
    "packs": "packs",
    "rules_directories": "rules_directories",
    "exceptions_file": "exceptions_file",
    "risk_points": "risk_points",
    "accepted_domains": "accepted_domains",
    "enrich": "enrich",
    "responder": "response",
    "channels": "notifications",
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
    renews: tuple[str, ...] = ()
    """Why the collector has to be built anew for `settings`, one line for each key."""
    needs_restart: tuple[str, ...] = ()
    """What else the file says, one line for each key."""

    @property
    def text(self) -> str:
        """What was taken up, in words; empty where nothing was."""
        parts = (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        tenants = "; ".join(f"{what} {_names(tenants)}" for what, tenants in parts if tenants)
        detections = f"detections: {', '.join(self.detections)}" if self.detections else ""
        renews = ", ".join(self.renews)
        return "; ".join(filter(None, (tenants and f"tenants: {tenants}", detections, renews)))


def plan_change(old: Settings, new: Settings) -> Change:
    """What of `new` a run with `old` can take up, and what it cannot."""
    before, wanted = _reachings(old.tenants), _reachings(new.tenants)
    added = [feed for feed in wanted if feed not in before]
    removed = [feed for feed in before if feed not in wanted]
    changed = [feed for feed in wanted if feed in before and wanted[feed] != before[feed]]
    renews = [*_keys_changed(_GLOBALS, old, new), *_outputs_changed(old, new)]
    if old.detections.enabled != new.detections.enabled:
        renews.append("detections.enabled is another one")
    renews += [line for tenant, service in wanted.values() for line in _new_tags(tenant, service, old)]
    renews += [line for feed in changed for line in _filters_changed(wanted[feed], before[feed])]
    detections, keys = _detections_after(old.detections, new.detections)
    old_ids, new_ids = {one.tenant_id for one in before}, {one.tenant_id for one in wanted}
    moved = _ids([*added, *removed, *changed])
    taken = replace(old, tenants=_tenants(wanted), warnings=new.warnings, detections=detections)
    anew = replace(new, state_directory=old.state_directory, keeps_state=old.keeps_state)
    return Change(
        anew if renews else taken,
        added=tuple(one for one in moved if one not in old_ids),
        changed=tuple(one for one in moved if one in old_ids & new_ids),
        removed=tuple(one for one in moved if one not in new_ids),
        detections=keys,
        renews=tuple(dict.fromkeys(renews)),
        needs_restart=tuple(f"{line}; needs a restart" for line in _keys_changed(_STATE, old, new)),
    )


def _detections_after(
    old: DetectionsSection, new: DetectionsSection
) -> tuple[DetectionsSection, tuple[str, ...]]:
    """What a run goes on with, and which keys of it are others; nothing of detections that are off."""
    if not (old.enabled and new.enabled):
        return old, ()
    keys = tuple(key for field, key in _DETECTIONS.items() if getattr(old, field) != getattr(new, field))
    return new, keys


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


def _new_tags(tenant: TenantSettings, service: ServiceSettings, running: Settings) -> list[str]:
    """What of a feed's settings a running output does not know."""
    tag = service.override_tag
    return [
        f"inputs.{tenant.input_name}.override_tag is new to the output {output.name}"
        for output in running.outputs
        if tag is not None and output.override_tags is not None and tag not in output.override_tags
    ]


def _filters_changed(new: _Reaching, old: _Reaching) -> list[str]:
    (tenant, service), (_, before) = new, old
    key = f"inputs.{tenant.input_name}.services.{service.service}"
    pairs = (
        ("size", service.bloom_filter_size, before.bloom_filter_size),
        ("buffer_size", service.bloom_filter_buffer_size, before.bloom_filter_buffer_size),
    )
    return [
        f"{key}.override_bloom_filter_{name} is another one" for name, one, other in pairs if one != other
    ]


def _keys_changed(keys: Mapping[str, str], old: Settings, new: Settings) -> list[str]:
    return [
        f"{key} is another one" for field, key in keys.items() if getattr(old, field) != getattr(new, field)
    ]


def _outputs_changed(old: Settings, new: Settings) -> list[str]:
    before = {output.name: output.with_override_tags(()) for output in old.outputs}
    after = {output.name: output.with_override_tags(()) for output in new.outputs}
    found = [f"outputs.{name} is new" for name in after if name not in before]
    found += [f"outputs.{name} is gone" for name in before if name not in after]
    return found + [
        f"outputs.{name} is changed"
        for name, output in after.items()
        if name in before and before[name] != output
    ]


def _ids(feeds: Iterable[Feed]) -> list[TenantId]:
    return list(dict.fromkeys(feed.tenant_id for feed in feeds))


_NAMED_MAX = 5


def _names(tenants: Sequence[TenantId]) -> str:
    more = len(tenants) - _NAMED_MAX
    return ", ".join(tenants[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
