"""Operations that tables of changes ask for by their names: the same ones as a pattern would find."""

from __future__ import annotations

import re

import duckdb
import pytest

from m365watch.board.query.sql import exchange_queries as exchange
from m365watch.board.query.sql import sharepoint_queries as sharepoint

PATTERNS = {
    exchange.IS_RULE: "inboxrule|sweeprule",
    exchange.IS_FLOW: "transportrule|connector|journalrule|remotedomain|accepteddomain",
    exchange.IS_PERMISSION: (
        "mailboxpermission|recipientpermission|folderpermission|managementroleassignment|mailboxauditbypass"
    ),
    sharepoint.IS_DELETION: "^(file|folder|list|site).*(deleted|recycled)",
    sharepoint.IS_GUARD: "^(sitecollectionadmin|sharingpolicy|filemalware|fileversionsall)",
    sharepoint.IS_LINK: "^anonymouslink(created|updated|used)$",
}
NAMES = (
    *("New-InboxRule", "Remove-SweepRule", "UpdateInboxRules", "Set-TransportRule", "New-InboundConnector"),
    *("New-JournalRule", "Set-RemoteDomain", "Set-AcceptedDomain", "Add-MailboxPermission", "Set-Mailbox"),
    *("Add-RecipientPermission", "AddFolderPermissions", "New-ManagementRoleAssignment", "", "deleted"),
    *("Set-MailboxAuditBypassAssociation", "FileDeleted", "FolderRecycled", "ListItemDeleted", "SiteDeleted"),
    *("FileDeletedFirstStageRecycleBin", "FileModified", "ItemFileDeleted", "SiteCollectionAdminAdded"),
    *("SharingPolicyChanged", "FileMalwareDetected", "FileVersionsAllDeleted", "NoSharingPolicyChanged"),
    *("AnonymousLinkCreated", "AnonymousLinkUpdated", "AnonymousLinkUsed", "AnonymousLinkRemoved"),
    *("AnonymousLinkUsedTwice", "AnAnonymousLinkUsed", "MailItemsAccessed"),
)


@pytest.mark.parametrize("condition", PATTERNS)
def test_the_words_of_a_name_say_what_a_pattern_would(condition: str) -> None:
    """In large and small letters, at the beginning or anywhere."""
    names = [*NAMES, *map(str.upper, NAMES), *map(str.lower, NAMES)]
    only = condition.removesuffix(f" AND {sharepoint.IN_SITES}")
    found = duckdb.execute(
        f"SELECT operation FROM (SELECT unnest($names) AS operation) WHERE {only}",
        {"names": names},
    ).fetchall()

    expected = [one for one in names if re.search(PATTERNS[condition], one.lower())]

    assert sorted(one for (one,) in found) == sorted(expected)
    assert 0 < len(expected) < len(names)
