"""The packages that only the board needs."""

from __future__ import annotations

from m365watch.common.errors import NeedsOperator


def require_board() -> None:
    """Nothing, where the board's packages are there.

    Raises: NeedsOperator.
    """
    try:
        import argon2  # noqa: F401 - whether it is there
        import jinja2  # noqa: F401 - whether it is there
        import starlette  # noqa: F401 - the same
        import uvicorn  # noqa: F401 - the same
    except ImportError as error:
        raise NeedsOperator(
            f"the board needs the Python package {error.name}",
            fix='run in the checkout: pip install ".[board]"',
        ) from None
