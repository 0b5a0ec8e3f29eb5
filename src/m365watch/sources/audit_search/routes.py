"""Which content type a record of the audit search would have come by. Pure.

Source: api-contract 4.1. The pairs are documented or observed for the record types that are named
here; that an unknown type goes by its Workload is an assumption, and it decides only under which
service the record is counted, masked and tagged, never whether it counts as the same record.
"""

from __future__ import annotations

from m365watch.common.model import ContentType, Header

_BY_RECORD_TYPE = {
    **dict.fromkeys((11, 13, 33, 63, 107), ContentType.DLP),
    **dict.fromkeys((8, 9, 15), ContentType.AZURE_ACTIVE_DIRECTORY),
    **dict.fromkeys((1, 2, 3, 19, 50), ContentType.EXCHANGE),
    **dict.fromkeys((4, 6, 14, 36, 37, 54, 55, 56), ContentType.SHAREPOINT),
    **dict.fromkeys((18, 20, 22, 23, 24, 25, 28, 40, 41, 47, 52, 64, 66, 84, 98), ContentType.GENERAL),
}
_BY_WORKLOAD = {
    "azureactivedirectory": ContentType.AZURE_ACTIVE_DIRECTORY,
    "exchange": ContentType.EXCHANGE,
    "sharepoint": ContentType.SHAREPOINT,
    "onedrive": ContentType.SHAREPOINT,
}


def content_type_of(header: Header) -> ContentType:
    """The content type by RecordType, else by Workload; Audit.General is for everything else."""
    try:
        known = _BY_RECORD_TYPE.get(int(header.RecordType or 0))
    except ValueError:
        known = None
    return known or _BY_WORKLOAD.get((header.Workload or "").lower(), ContentType.GENERAL)
