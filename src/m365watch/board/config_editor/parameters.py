"""What a new instance begins with: its usual parameters, to be filled in."""

from __future__ import annotations

INPUT = """\
type: office365
credentials:
  tenant_id: "<tenant>"               # the tenant's GUID, or a list of them
  client_id: "<application>"          # of the app registration in Entra
  client_secret: "<secret>"           # its value; or upload certificate_file and private_key_file
cloud: worldwide                      # or gcc, gcc-high, dod, china
services:                             # only these
  azure_active_directory:
  exchange:
  sharepoint:
  general_audit:
  dlp:
# outputs: [lake]                     # only these; left out, all of them
"""
OUTPUTS = {
    "lake": """\
type: lake
config:
  directory: lake                     # below the configuration's folder
  retention:
    days: 365                         # left out, records stay for ever
""",
    "files": """\
type: files
config:
  directory: records                  # below the configuration's folder
  compression: zstd                   # or gzip, none
""",
    "devo_platform": """\
type: devo_platform
config:
  address: "<collector-xx.devo.io>"   # of your region
  port: 443
  chain: "<upload it>"                # the authority's certificates, in PEM
  cert: "<upload it>"
  key: "<upload it>"
""",
    "devo_http": """\
type: devo_http
config:
  endpoint: "<https://http-xx.devo.io>"
  domain: "<your domain>"
  token: "<token>"
""",
    "syslog": """\
type: syslog
config:
  address: "<host>"
  port: 6514
  transport: tls                      # or tcp, udp
  format: rfc5424                     # or rfc3164, devo
""",
    "console": """\
type: console
""",
}
INPUT_KIND = "office365"


def template_of(kind: str, type_: str) -> tuple[str, str]:
    """The name and the text that a new instance begins with; of an unknown type, the first one's."""
    if kind == "inputs":
        return INPUT_KIND, INPUT
    name = type_ if type_ in OUTPUTS else next(iter(OUTPUTS))
    return name, OUTPUTS[name]
