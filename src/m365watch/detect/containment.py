"""The words that rules have under `contain`: what stops an intruder."""

from __future__ import annotations

from difflib import get_close_matches

WORDS = frozenset(
    {
        "block_address",
        "block_external_user",
        "disable_account",
        "disable_anonymous_link",
        "disable_application",
        "disable_flow",
        "remove_connector",
        "remove_credential",
        "remove_device",
        "remove_file",
        "remove_forwarding",
        "remove_group_member",
        "remove_inbox_rule",
        "remove_mail",
        "remove_mailbox_permission",
        "remove_oauth_grant",
        "remove_owner",
        "remove_role",
        "remove_sharing",
        "remove_site_admin",
        "remove_transport_rule",
        "reset_password",
        "restore_audit",
        "restore_federation",
        "restore_files",
        "restore_mfa",
        "restore_policy",
        "restore_sharing_policy",
        "revoke_sessions",
        "scan_device",
    }
)
"""What `respond` has steps for."""


def why_unknown(word: str) -> str:
    """What is wrong with a word; empty where it is known, or is a sentence: a step of one's own."""
    if word in WORDS or " " in word.strip():
        return ""
    near = get_close_matches(word.lower(), WORDS, n=1)
    cure = (
        f"did you mean {near[0]}?" if near else "write a step of your own as a sentence: Call the help desk"
    )
    return f"{word} is no step that is known; {cure}"
