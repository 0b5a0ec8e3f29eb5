"""Which changes stand out by their own text, as SQL: what leads mail away, hides it, or gives wide rights.

It marks rather too much: the pages say of each change why it stands out, and leave the others below.
"""

from __future__ import annotations

_SET = r'"\s*,\s*"(New)?Value"\s*:\s*"'
HIDING = (
    "RSS|Archiv|Arkiv|Archief|Arquivo|Conversation History|Unterhaltung|Historique des conv|Junk|Spam|Deleted"
    "|Gel(ö|oe)scht|supprim|eliminad|eliminata|Posta indesiderata|Courrier ind|Trash|Papierkorb|Sync Issues"
)
"""Parts of the names of folders in which nobody looks."""
_ODD = r"([^\pL\pN\"\\]{1,12}|[^\"\\])"
"""A name of signs alone, or of one character."""
WIDE_SCOPES = (
    r"\b(Mail|MailboxSettings|Files|Sites|Directory|RoleManagement|Application|AppRoleAssignment|EWS|IMAP|POP"
    r"|SMTP|Notes|Chat|ChannelMessage|Policy|Device|Group)\.(?-i:[A-Z])|full_access|\.All\b"
)
"""Scopes that let an application at mail, files or everybody's."""
WIDE_ROLES = (
    "(Company|Global|Privileged|Exchange|Security|SharePoint|Application|User|Authentication|Hybrid"
    "|Conditional|Helpdesk|Password|Intune|Domain|Billing|Teams)[A-Za-z ]*Admin|Partner Tier"
)
"""Roles by which somebody may do much."""
_RULE = "|".join(
    (
        rf'"(ForwardTo|RedirectTo|ForwardAsAttachmentTo){_SET}[^"]',
        rf'"((Soft)?DeleteMessage|MarkAsRead){_SET}True',
        r"(Forward|Redirect|Delete|MarkAsRead)[A-Za-z]*Action",
        r'ActionType[\\": ]+(Forward|Redirect|Delete|PermanentDelete|MarkAsRead)',
        rf'Folder[\\"]+[^{{}}]{{0,80}}({HIDING})',
        rf'"(Name|RuleName){_SET}{_ODD}"',
    )
)
_FORWARDING = "|".join(
    (
        rf'"(ForwardingSmtpAddress|ForwardingAddress){_SET}[^"]',
        rf'"(AutoForwardEnabled{_SET}True|AutoForwardingMode{_SET}On")',
    )
)
_FLOW = "|".join(
    (
        rf'"(BlindCopyTo|CopyTo|RedirectMessageTo|AddToRecipients|JournalEmailAddress|SmartHosts){_SET}[^"]',
        rf'"DeleteMessage{_SET}True',
        rf'"SetSCL{_SET}-1',
        "DoNotAudit",
        rf'"Name{_SET}{_ODD}"',
    )
)
_RIGHT = "|".join(
    (
        rf'"(AccessRights|Role){_SET}[^"]*(FullAccess|SendAs|SendOnBehalf|Impersonation|Owner|Editor|Export)',
        r'"MemberRights"\s*:\s*"[^"]*(Owner|DeleteAny|EditAny|ReadAny)',
        rf'"AuditBypassEnabled{_SET}True',
    )
)
_CONSENT = (
    rf'{WIDE_SCOPES}|AllPrincipals|"ConsentContext\.(IsAdminConsent|OnBehalfOfAll){_SET}[^A-Za-z]{{0,6}}True'
)
_KINDS = (
    ("inboxrule|sweeprule", _RULE),
    ("^set-(mailbox|remotedomain|hostedoutboundspamfilterpolicy)$", _FORWARDING),
    ("transportrule|connector|journalrule", _FLOW),
    ("mailboxpermission|recipientpermission|folderpermission|managementroleassignment|auditbypass", _RIGHT),
    ("consent|permission ?grant|app role assignment", _CONSENT),
    ("^add .*role", WIDE_ROLES),
)
"""Operations, and what in the text of one of them stands out."""
MARKED = (
    "CASE "
    + " ".join(
        f"WHEN regexp_matches(lower(operation), '{of}') THEN regexp_matches(raw, '(?i){text}')"
        for of, text in _KINDS
    )
    + " ELSE regexp_matches(lower(operation), 'certificates and secrets|credentials|owner to (app|serv)"
    "|federat|conditional access|set domain auth|partner') END"
)
"""Whether a change stands out."""
