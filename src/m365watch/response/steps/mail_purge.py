"""Steps on a mail that lies in mailboxes: it is searched for, looked at, and only then purged."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import blake2b

from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.steps.command_escaping import powershell
from m365watch.response.steps.step import Step

_KQL_QUOTES = set('"\u201c\u201d\u201e')
_BEFORE, _AFTER = timedelta(days=7), timedelta(days=1)
"""How long before the alert's first record the mail may have come, and how long after."""
_PLACE = "Security & Compliance PowerShell only, of the Exchange module 3.9.0 or later: Graph cannot do it."
"""Source: Exchange PowerShell, New-ComplianceSearchAction, on purges."""
_NOT_CERTAIN = (
    "By hand, in Defender (Explorer): with a subject or a sender alone, which anybody can write,"
    " a search finds other people's mail as well."
)


def remove_mail(clues: Clues) -> list[Step]:
    """A search for the mail of that subject, sender and week; what it has found a person sees first."""
    subjects, senders = clues.values("Subject"), clues.entity("sender")
    subject = next((one for one in subjects if not _KQL_QUOTES & set(one)), "")
    sender = next((one for one in senders if not _KQL_QUOTES & set(one)), "")
    if not subject or not sender:
        told = ", ".join(f'"{one}"' for one in (*subjects[:1], *senders[:1]))
        return (
            [Step("remove_mail", f"Find the mail {told} and remove it", notes=(_NOT_CERTAIN,))]
            if told
            else []
        )
    since, until = _days(clues.first_at)
    when = f" AND received>={since} AND received<={until}"
    parts = ('subject:"', subject, '" AND from:"', sender, f'"{when}')
    # A search of that name that is there already looks for the same, and not for last week's mail.
    name = powershell(f"m365watch {blake2b(''.join(parts).encode(), digest_size=4).hexdigest()}")
    query = powershell(*parts)
    return [
        Step(
            "remove_mail",
            f'Remove the mail "{subject}" of {sender} from all mailboxes',
            powershell=(
                f"New-ComplianceSearch -Name {name} -ExchangeLocation All -ContentMatchQuery {query}",
                f"Start-ComplianceSearch -Identity {name}",
                f"Get-ComplianceSearch -Identity {name} | Format-List Status,Items,SuccessResults",
                "# after a look at what was found, and whose it is:",
                f"# New-ComplianceSearchAction -SearchName {name} -Purge -PurgeType SoftDelete",
            ),
            notes=(
                _PLACE,
                "A sender can be forged: mail of the real one may be among what is found.",
                (
                    "A purge takes ten of each mailbox at most: do both again until nothing is found."
                    " Its owner can get it back, as whatever they deleted."
                ),
            ),
        )
    ]


def _days(first_at: str) -> tuple[str, str]:
    at = datetime.fromisoformat(first_at)
    return f"{at - _BEFORE:%Y-%m-%d}", f"{at + _AFTER:%Y-%m-%d}"
