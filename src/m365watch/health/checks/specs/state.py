"""Whether a run could keep its ledger in the state directory."""

from __future__ import annotations

from m365watch.common.errors import LedgerUnusable
from m365watch.common.file_access import is_there, why_unwritable
from m365watch.config.models.settings import Settings
from m365watch.health.checks.check_specs import CheckSpec
from m365watch.ledger.lock import LOCK_FILE, holder_of
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.registry.checks import Check, Checked, bad, good, odd


def check_state(settings: Settings) -> Checked:
    """Whether a run could keep its ledger here; one that does so now is not disturbed."""
    folder = settings.state_directory
    if not settings.keeps_state:
        return odd(Check.STATE, "is kept in a temporary folder: the next run reads all of it again")
    failure = why_unwritable(folder)
    if failure is not None:
        fix = f"{failure.fix}, or set another state directory"
        return bad(Check.STATE, f"{folder} cannot be written: {failure.why}", fix=fix)
    if not is_there(folder / LEDGER_FILE):
        return good(Check.STATE, f"{folder} can be written; there is no ledger yet")
    try:
        holder = holder_of(folder / LOCK_FILE)
        with ledger_for_reading(folder / LEDGER_FILE):
            pass
    except LedgerUnusable as error:
        return bad(Check.STATE, f"{folder}: {error.what}", fix=error.fix)
    except OSError as error:
        fix = f"let this user read and write what is in {folder}, or run as its owner"
        return bad(Check.STATE, f"{folder}: {(error.strerror or 'unknown').lower()}", fix=fix)
    working = f"in use by {holder}" if holder else "not in use"
    return good(Check.STATE, f"{folder} can be written; its ledger is {working}")


SPEC = CheckSpec(
    type="state",
    rank=40,
    text="Whether the state directory can be written, and who uses its ledger.",
    look=lambda it: [check_state(it.settings)],
)
