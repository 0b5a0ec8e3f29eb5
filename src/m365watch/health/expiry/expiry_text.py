"""What is said of a credential that ends: in the log, in notices, in `status` and in `why`. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from m365watch.health.expiry.credential_expiry import ENDED, Judged
from m365watch.health.expiry.expiry_store import KnownApplication
from m365watch.registry.credential_specs import CREDENTIALS, CredentialSpec, Source

_HOURS_BELOW = timedelta(days=2)
_MINUTES_BELOW = timedelta(hours=2)


def spec_of(judged: Judged) -> CredentialSpec[Any]:
    """The kind of the credential."""
    return CREDENTIALS.by_name[judged.end.kind]


def place_of(known: KnownApplication) -> str:
    """Whose credential it is: the tenant, or the first of several and how many more there are."""
    more = len(known.tenants) - 1
    return known.tenants[0] + (f" and {more:,} more tenant{'s' if more > 1 else ''}" if more else "")


def expiry_text(known: KnownApplication, judged: Judged) -> str:
    """What is to be known of a credential whose end is near or has passed, without the cure."""
    may = "" if len(judged.end.ends) == 1 else "may have " if judged.threshold == ENDED else "may "
    verb = f"{may}expired" if judged.threshold == ENDED else f"{may}expire" if may else "expires"
    parts = [f"the {_name(known, judged)} of application {known.client_id} {verb} {_when(judged)}"]
    parts += [judged.end.note] if judged.end.note else []
    if judged.others:
        parts.append("another credential of the application goes on")
    elif judged.threshold == ENDED:
        parts.append("without it nothing more is collected")
    return "; ".join(parts)


def cure_of(known: KnownApplication, judged: Judged) -> str:
    """What to do about it: one sentence without its full stop."""
    place = f"inputs.{known.input_name}.credentials{'.' if judged.end.key else ''}{judged.end.key}"
    return spec_of(judged).renew.format(place=place)


def warning_line(known: KnownApplication, judged: Judged) -> str:
    """The whole line: whose, what, and what to do."""
    return f"{place_of(known)}: {expiry_text(known, judged)}; {cure_of(known, judged)}"


def passed_line(known: KnownApplication, judged: Judged) -> str:
    """That a credential which was warned of is good for long again."""
    return (
        f"{place_of(known)}: the {_name(known, judged)} of application {known.client_id} expires "
        f"{_when(judged)}: the warning is over"
    )


def unknown_line(known: KnownApplication, judged: Judged) -> str:
    """That nobody knows an end, and why; no trouble, but then there is no warning either."""
    said = f"{place_of(known)}: it is not known when the {_name(known, judged)} expires: {judged.end.note}"
    return f"{said}; {hint}" if (hint := unknown_cure(known, judged)) else said


def unknown_cure(known: KnownApplication, judged: Judged) -> str:
    """What makes an end known; empty where the reason says it."""
    within = "".join(f".{part}" for part in judged.end.key.split(".")[:-1])
    place = f"inputs.{known.input_name}.credentials{within}"
    return spec_of(judged).unknown_fix.format(place=place)


def standing_text(known: KnownApplication, judged: Judged) -> str:
    """One credential in a few words, for a page: `client secret: expires at 2027-05-01 09:00 UTC, in ...`."""
    return f"{_name(known, judged)}: {life_text(judged)}"


def life_text(judged: Judged) -> str:
    """The same where what it is about is named already: `expires at 2027-05-01 09:00 UTC, in ...`."""
    if judged.end.source is Source.RENEWED:
        return f"renewed by {spec_of(judged).renewed_by}"
    if judged.ends_at is None:
        return f"it is not known when it expires: {judged.end.note}"
    verb = "expired" if judged.threshold == ENDED else "expires"
    by = "Graph" if judged.end.source is Source.GRAPH else spec_of(judged).known_by
    known_by = "; ".join(part for part in (f"by {by}" if by else "", judged.end.note) if part)
    return f"{verb} {_when(judged)} ({known_by})"


def _name(known: KnownApplication, judged: Judged) -> str:
    """The kind of the credential, with its number where there are several."""
    name = spec_of(judged).label
    count = len(known.credentials)
    return name if count == 1 else f"{name} (credential {judged.number} of {count})"


def _when(judged: Judged) -> str:
    """`at 2026-12-24 09:00 UTC, in 29 days`."""
    if judged.ends_at is None or judged.left is None:
        return "at a time that nobody knows"
    return f"at {judged.ends_at:%Y-%m-%d %H:%M} UTC, {_distance(judged.left)}"


def _distance(left: timedelta) -> str:
    """`in 29 days`, `in 23 hours`, `3 days ago`."""
    span = abs(left)
    if span >= _HOURS_BELOW:
        text = f"{span.days} days"
    elif span >= _MINUTES_BELOW:
        text = f"{span // timedelta(hours=1)} hours"
    else:
        text = f"{span // timedelta(minutes=1)} minutes"
    return f"in {text}" if left > timedelta() else f"{text} ago"
