"""Forms that a page of the board sends in a body."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.requests import Request

FORM_BYTES_MAX = 8_192
FIELDS_MAX = 10


async def form_of(request: Request, *, bytes_max: int = FORM_BYTES_MAX) -> dict[str, str]:
    """The form's fields; none where it is longer than any of ours, or has more of them."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > bytes_max:
            return {}
    try:
        fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}
