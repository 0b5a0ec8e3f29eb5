"""What no single key can get wrong: two keys, or two inputs, that do not go together.

These checks take the document before the schema has seen it, so that they speak up in the same
run as every other mistake; what is not there, or of the wrong kind, they leave to the schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path

from m365watch.common.model import Service
from m365watch.config.config_file import absolute
from m365watch.config.defaults import BY_DEFAULT, COLLECTING
from m365watch.config.document import NOTIFICATIONS, Document, section_at, texts_at
from m365watch.config.models.kinds import KindSection
from m365watch.config.models.notifications import channel_sections
from m365watch.config.models.outputs import no_such_output, output_sections
from m365watch.config.models.values import is_guid
from m365watch.config.normalization import is_off
from m365watch.config.validation_report import KeyPath, Report
from m365watch.registry.output_specs import LAKE

_DEFAULT_INPUT = "office365"


def check_agreement(document: Document, *, folder: Path, report: Report) -> None:
    """Refuse what does not go together in the document."""
    inputs = section_at(document, "inputs")
    if isinstance(document.get("inputs"), dict) and not inputs:
        report.refuse(("inputs",), "no input is switched on; give one with its credentials")
    for name in inputs:
        _check_type(name, section_at(inputs, name), report)
        _check_services(name, section_at(inputs, name), report)
        _check_graph(name, section_at(inputs, name), report)
    _check_ids(inputs, report)
    _check_tenants(inputs, report)
    _check_outputs(inputs, [*section_at(document, "outputs")] or [LAKE], report)
    _check_directories(document, folder, report)
    _check_state(document, report)
    for name in section_at(document, "outputs"):
        output = section_at(document, "outputs", name)
        options, path = section_at(output, "config"), ("outputs", name, "config")
        _check_options(output_sections().get(str(output.get("type"))), options, path, report)
    for name in section_at(document, *NOTIFICATIONS):
        _check_channel(section_at(document, *NOTIFICATIONS, name), (*NOTIFICATIONS, name), inputs, report)


def enabled_services(input_section: Document) -> list[Service]:
    """The collecting services of one input: those named and not switched off, or else the usual ones."""
    services = section_at(input_section, "services")
    if not services:
        return list(BY_DEFAULT)
    return [name for name in COLLECTING if name in services and not is_off(services[name])]


def _check_type(name: str, input_section: Document, report: Report) -> None:
    if name != _DEFAULT_INPUT and input_section and input_section.get("type") is None:
        report.refuse(("inputs", name, "type"), "is missing; give office365")


def _check_services(name: str, input_section: Document, report: Report) -> None:
    known = {*section_at(input_section, "services")} & {*Service}
    if known and not enabled_services(input_section):
        report.refuse(
            ("inputs", name, "services"),
            "nothing is collected; switch on one of " + ", ".join(COLLECTING),
        )


def _check_graph(name: str, input_section: Document, report: Report) -> None:
    """Refuse a service of Graph's in a cloud of one's own that names no Graph."""
    cloud = section_at(input_section, "cloud")
    if not cloud or "name" in cloud or cloud.get("graph_url") is not None:
        return
    for service in enabled_services(input_section):
        if service not in BY_DEFAULT:
            why = f"is missing; {service} asks Microsoft Graph there"
            report.refuse(("inputs", name, "cloud", "graph_url"), why)


def _check_ids(inputs: Document, report: Report) -> None:
    owners: dict[str, str] = {}
    for name in inputs:
        given = section_at(inputs, name).get("id")
        owner = owners.setdefault(str(given) if isinstance(given, str | int) else name, name)
        if owner != name:
            report.refuse(
                ("inputs", name, "id"),
                f"is the same as that of {report.show(('inputs', owner))}; give each input its own",
            )


def _check_tenants(inputs: Document, report: Report) -> None:
    """Refuse a tenant's service that is collected twice: its records would be delivered twice."""
    owners: dict[tuple[str, Service], str] = {}
    for name in inputs:
        tenants = [t.lower() for t in texts_at(section_at(inputs, name, "credentials"), "tenant_id")]
        if len(set(tenants)) < len(tenants):
            path: KeyPath = ("inputs", name, "credentials", "tenant_id")
            report.refuse(path, "names a tenant twice; name each once")
        for tenant, service in product(filter(is_guid, tenants), enabled_services(section_at(inputs, name))):
            owner = owners.setdefault((tenant, service), name)
            if owner != name:
                report.refuse(
                    ("inputs", name, "services", service.value),
                    f"{report.show(('inputs', owner))} collects this of tenant {tenant} already; "
                    "switch it off in one of the two",
                )


def _check_outputs(inputs: Document, names: Sequence[str], report: Report) -> None:
    """Refuse an output that is not among `names`, and a tenant whose inputs differ in their outputs.

    What is a duplicate is told over all records of a tenant: each has to go to the same places.
    """
    owners: dict[str, str] = {}
    for name in inputs:
        section, path = section_at(inputs, name), ("inputs", name, "outputs")
        wanted = texts_at(section, "outputs")
        for place, output in enumerate(wanted):
            if output not in names:
                key = (*path, place) if isinstance(section.get("outputs"), list) else path
                report.refuse_value(key, output, no_such_output(output, names))
        for tenant in {one.lower() for one in texts_at(section_at(section, "credentials"), "tenant_id")}:
            owner = owners.setdefault(tenant, name)
            if set(wanted or names) != set(texts_at(section_at(inputs, owner), "outputs") or names):
                report.refuse(
                    path,
                    f"differs from that of {report.show(('inputs', owner))}, which has tenant {tenant} as "
                    "well; name the same outputs in both",
                )


def _check_directories(document: Document, folder: Path, report: Report) -> None:
    """Refuse outputs that would write into each other's folder, or into the collector's state."""
    outputs = section_at(document, "outputs")
    places = {
        ("outputs", name, "config", "directory"): absolute(folder, Path(directory))
        for name in outputs
        if (directory := _output_directory(section_at(outputs, name))) is not None
    }
    for (path, place), (other_path, other) in combinations(places.items(), 2):
        if place.is_relative_to(other) or other.is_relative_to(place):
            report.refuse(
                other_path, f"is in the folder of {report.show(path)}, or around it; give a folder apart"
            )
    persistence = section_at(document, "globals", "persistence", "config")
    state = absolute(folder, Path(str(persistence.get("directory_name") or "state")))
    for path, place in places.items():
        # The state may lie around an output's folder, for an output never looks outside its own.
        if state.is_relative_to(place):
            report.refuse(path, "holds the collector's state as well; give a folder apart")
    if not outputs and state.is_relative_to(absolute(folder, Path(LAKE))):
        report.refuse(
            ("globals", "persistence", "config", "directory_name"),
            "lies in the lake that is written without outputs; give a folder apart",
        )


def _check_options(
    section: type[KindSection] | None, options: Document, path: KeyPath, report: Report
) -> None:
    """Refuse what the kind says does not go together."""
    for place, why in section.disagreements(options, path) if section else ():
        report.refuse(place, why)


def _check_channel(options: Document, path: KeyPath, inputs: Document, report: Report) -> None:
    """Refuse what the channel's kind says does not go together, and tenants that no input collects."""
    _check_options(channel_sections().get(str(options.get("type"))), options, path, report)
    tenants = {
        one.lower()
        for input_name in inputs
        for one in texts_at(section_at(inputs, input_name, "credentials"), "tenant_id")
    }
    for number, tenant in enumerate(texts_at(options, "tenants")):
        if tenants and tenant.lower() not in tenants:
            key = (*path, "tenants", number) if isinstance(options["tenants"], list) else (*path, "tenants")
            report.refuse_value(key, tenant, "is no tenant of any input; give one that is collected")


def _check_state(document: Document, report: Report) -> None:
    """Refuse a lake or files whose state goes at the end: what they hold is told by the state alone."""
    if section_at(document, "globals", "persistence").get("type") != "memory":
        return
    outputs = section_at(document, "outputs")
    bound = [name for name in outputs if _output_directory(section_at(outputs, name)) is not None]
    if bound or not outputs:
        which = report.show(("outputs", bound[0])) if bound else "the lake that is written without outputs"
        report.refuse(
            ("globals", "persistence", "type"),
            f"is memory, which {which} cannot do with; give filesystem, or outputs to send to only",
        )


def _output_directory(output: Document) -> str | None:
    """The folder that the output writes to; None where its kind has none."""
    section = output_sections().get(str(output.get("type")))
    default = section.default_directory() if section else None
    directory = section_at(output, "config").get("directory")
    return directory if default and isinstance(directory, str) else default
