"""What a record can be about that has no column of its own, or not in all kinds of records, as SQL.

Investigate and Search mean the same by it: both take it from here.
"""

from __future__ import annotations

_OWNER = "try(json_extract_string(raw, '$.MailboxOwnerUPN'))"
_GIVEN = "try(json_extract_string(raw, '$.Parameters'))"
_NAMED = r"""'"name"\s*:\s*"(identity|mailbox)"\s*,\s*"value"\s*:\s*"([^"]*)"'"""

ABOUT = ("session", "mailbox", "site")
"""What a record can be about."""


def mention_sql(name: str, *, value: str, made: dict[str, str]) -> str:
    """The condition that a record is about `value`, which is bound in lower case, by the name in `ABOUT`.

    `made` says how `object` and, in lower case, `session` are made of a row; `raw`, `workload` and
    `record_type` are columns of it.
    """
    if name == "session":
        return f"({made['session']} = {value} OR contains(lower(raw), {value}))"
    if name == "site":
        return f"(workload IN ('SharePoint', 'OneDrive') AND contains(lower({made['object']}), {value}))"
    return _in_mailbox(value, made["object"])


def shown_mention_sql(name: str, *, value: str) -> str:
    """The same, of what is shown of a record to whoever sees no contents: its own text has no part in it.

    `owner`, `app_session` and `device_session` stay of it, and `object` is as it is shown. What was
    set on a mailbox only that text or a target says, which may be a rule's name too: it is not found.
    """
    if name == "session":
        return f"({value} IN (session, app_session, device_session))"
    if name == "mailbox":
        return f"(workload = 'Exchange' AND owner = {value})"
    return mention_sql(name, value=value, made={"object": "object"})


def _in_mailbox(value: str, target: str) -> str:
    """What was done in the mailbox, by whomever, and what was set on it.

    What else its owner did is not, nor what else has the address in it. Cmdlets name it by its address, or by
    the last part of a path.
    """
    box = f"nullif(split_part({value}, '@', 1), '')"
    about = rf"regexp_extract(lower({target}), '([^/\\]+)(\\[^/]*)?$', 1)"
    set_on = f"{about} = {box} OR regexp_extract(lower({_GIVEN}), {_NAMED}, 2) = {value}"
    return (
        f"(workload = 'Exchange' AND contains(lower(raw), {box})"
        f" AND (lower({_OWNER}) = {value} OR (record_type = 1 AND ({set_on}))))"
    )
