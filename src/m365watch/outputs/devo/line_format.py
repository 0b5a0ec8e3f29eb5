"""What Devo's collector adds to each record; the rest of the record stays as it is."""

from __future__ import annotations

import msgspec

from m365watch.common.model import BatchPart


def list_fields(part: BatchPart) -> bytes:
    """`@devo_pulling_id` and `@devo_environment` of a part's records, as members of a JSON object.

    Empty where neither is known. Source: Devo's Collector SDK 1.8.0, whose pulling id is a string.
    """
    fields = {}
    if part.pulling_id:
        fields["@devo_pulling_id"] = str(part.pulling_id)
    if part.environment is not None:
        fields["@devo_environment"] = part.environment
    return msgspec.json.encode(fields)[1:-1]


def add_fields(record: bytes, fields: bytes) -> bytes:
    """`record` with `fields` before its closing brace, and not another byte changed.

    A record that has such a key gets a second one behind it, which is the one that counts for
    whoever reads JSON; Devo's collector overwrites it. What ends with no brace is no object and stays as
    it is.
    """
    brace = record.rfind(b"}")
    if not fields or brace < 0 or record[brace + 1 :].strip():
        return record
    comma = b"" if record[:brace].rstrip().endswith(b"{") else b","
    return b"".join((record[:brace], comma, fields, record[brace:]))
