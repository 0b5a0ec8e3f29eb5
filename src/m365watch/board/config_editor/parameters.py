"""What a new instance begins with: its usual parameters, to be filled in."""

from __future__ import annotations

from m365watch.registry.credential_specs import other_keys
from m365watch.registry.output_specs import OUTPUTS

INPUT = """\
type: office365
credentials:
  tenant_id: "<tenant>"               # the tenant's GUID, or a list of them
  client_id: "<application>"          # of the app registration in Entra
  client_secret: "<secret>"           # its value; or <others>
cloud: worldwide                      # or gcc, gcc-high, dod, china
services:                             # only these
  azure_active_directory:
  exchange:
  sharepoint:
  general_audit:
  dlp:
# outputs: [lake]                     # only these; left out, all of them
"""
INPUT_KIND = "office365"


def template_of(kind: str, type_: str) -> tuple[str, str]:
    """The name and the text that a new instance begins with; of an unknown type, the first one's."""
    if kind == "inputs":
        return INPUT_KIND, INPUT.replace("<others>", other_keys())
    spec = OUTPUTS.by_name.get(type_, OUTPUTS.specs[0])
    return spec.type, spec.template
