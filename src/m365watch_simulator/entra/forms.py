"""The form that a request carries, whatever it carries."""

from __future__ import annotations

from aiohttp import web


async def form_of(request: web.Request) -> dict[str, str]:
    """Its texts by their names; empty where the body is no form, or says so of itself and is none."""
    try:
        posted = await request.post()
    except (ValueError, LookupError, AssertionError, RecursionError):
        return {}
    return {name: said for name, said in posted.items() if isinstance(said, str)}
