"""Attacks on mail and on its audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m365watch_simulator.organization.attacks.attack import Attack, Cast, Stage, intruder, whereabouts
from m365watch_simulator.organization.network import STRANGE_BROWSER
from m365watch_simulator.organization.people import Actor
from m365watch_simulator.organization.shapes import compliance, mailbox, signin
from m365watch_simulator.organization.shapes.exchange_admin import alias_of, cmdlet_run, forest_path

if TYPE_CHECKING:
    from m365watch_simulator.organization.shapes.exchange_admin import Parameters

_LURE_WORDS = "invoice;payment;bank;Rechnung"


def forward_mail(stage: Stage, cast: Cast) -> Attack:
    """The intruder reads the mailbox, hides and forwards what is about money, and covers up."""
    scene, person = stage.scene, cast.victim
    actor = intruder(cast, person, device=STRANGE_BROWSER, session_id=scene.guid())
    stage.keep(signin.signed_in(scene, actor, request="OAuth2:Authorize"))
    for _ in range(4):
        stage.wait(60, 180)
        stage.keep(mailbox.mail_read(scene, actor, count=scene.dice.randint(8, 25)))
    stage.wait(120, 240)
    _make_rule(
        stage,
        actor,
        name=".",
        action=(("ForwardTo", cast.outside_mailbox), ("DeleteMessage", "True")),
    )
    stage.wait(30, 90)
    _make_rule(stage, actor, name="..", action=(("MoveToFolder", "RSS Feeds"), ("MarkAsRead", "True")))
    stage.wait(30, 90)
    stage.keep(mailbox.rule_updated(scene, actor, recipient=cast.outside_mailbox, name="."))
    stage.wait(60, 180)
    forwarding = (
        ("Identity", person.upn),
        ("ForwardingSmtpAddress", f"smtp:{cast.outside_mailbox}"),
        ("DeliverToMailboxAndForward", "False"),
    )
    _run(stage, actor, "Set-Mailbox", forwarding, object_id=alias_of(person))
    stage.wait(60, 180)
    covered = ("Security alert: new device signed in",)
    stage.keep(mailbox.mails_deleted(scene, actor, operation="HardDelete", subjects=covered))
    stage.wait(120, 360)
    for operation in ("AlertEntityGenerated", "AlertTriggered"):
        stage.keep(
            compliance.alert_raised(scene, actor, operation=operation, alert=compliance.FORWARDING_ALERT)
        )
    return stage.tell(
        "inbox_rule_forwarding",
        title="Inbox rule and forwarding after a takeover",
        account=(
            f"From {cast.address} ({cast.place.country}), {person.upn} got rules that hide mail about "
            f"money and a forwarding to {cast.outside_mailbox}."
        ),
        entities={
            "user": (person.upn,),
            "recipient": (cast.outside_mailbox,),
            **whereabouts(cast),
        },
    )


def _make_rule(stage: Stage, actor: Actor, *, name: str, action: Parameters) -> None:
    parameters = (
        ("AlwaysDeleteOutlookRulesBlob", "False"),
        ("Force", "False"),
        ("Name", name),
        ("SubjectOrBodyContainsWords", _LURE_WORDS),
        *action,
        ("StopProcessingRules", "True"),
    )
    path = forest_path(stage.scene, f"{alias_of(actor.person)}\\{name}")
    _run(stage, actor, "New-InboxRule", parameters, object_id=path)


def _run(stage: Stage, actor: Actor, operation: str, parameters: Parameters, *, object_id: str = "") -> None:
    stage.keep(
        cmdlet_run(stage.scene, actor, operation=operation, parameters=parameters, object_id=object_id)
    )


def delegate_mailbox(stage: Stage, cast: Cast) -> Attack:
    """An account gets full access to a mailbox worth reading, reads it, and writes in its name."""
    scene, owner = stage.scene, cast.treasurer
    admin = intruder(cast, cast.admin, device=STRANGE_BROWSER, session_id=scene.guid())
    access = (
        ("Identity", owner.upn),
        ("User", cast.victim.upn),
        ("AccessRights", "FullAccess"),
        ("InheritanceType", "All"),
        ("AutoMapping", "False"),
    )
    _run(stage, admin, "Add-MailboxPermission", access, object_id=alias_of(owner))
    stage.wait(30, 90)
    sending = (("Identity", owner.upn), ("Trustee", cast.victim.upn), ("AccessRights", "SendAs"))
    _run(stage, admin, "Add-RecipientPermission", sending, object_id=alias_of(owner))
    reader = intruder(cast, cast.victim, device=STRANGE_BROWSER, session_id=scene.guid())
    for _ in range(8):
        stage.wait(60, 240)
        stage.keep(mailbox.mail_read(scene, reader, mailbox=owner, count=scene.dice.randint(4, 20)))
    stage.wait(60, 240)
    stage.keep(mailbox.mail_handled(scene, reader, operation="SendAs", mailbox=owner))
    return stage.tell(
        "mailbox_delegation",
        title="Mailbox delegated to another account",
        account=(
            f"{cast.admin.upn} gave {cast.victim.upn} full access to {owner.upn}, whose mail was then "
            f"read from {cast.address}."
        ),
        entities={
            "user": (cast.admin.upn, cast.victim.upn),
            "mailbox": (owner.upn,),
            **whereabouts(cast),
        },
    )


def add_transport_rule(stage: Stage, cast: Cast) -> Attack:
    """All mail about money goes to an outsider as well, and one sender passes every filter."""
    actor = intruder(cast, cast.admin, device=STRANGE_BROWSER, session_id=stage.scene.guid())
    copying = (
        ("Name", "."),
        ("SetAuditSeverity", "DoNotAudit"),
        ("Mode", "Enforce"),
        ("BlindCopyTo", cast.outside_mailbox),
        ("SubjectOrBodyContainsWords", _LURE_WORDS),
    )
    _run(stage, actor, "New-TransportRule", copying)
    stage.wait(60, 300)
    passing = (("Name", ".."), ("SenderDomainIs", "example.net"), ("SetSCL", "-1"))
    _run(stage, actor, "New-TransportRule", passing)
    return stage.tell(
        "mail_transport_rule",
        title="Transport rule copies mail outside",
        account=(
            f"{cast.admin.upn} made a transport rule from {cast.address} that copies mail about money "
            f"to {cast.outside_mailbox}, unseen."
        ),
        entities={
            "user": (cast.admin.upn,),
            "recipient": (cast.outside_mailbox,),
            **whereabouts(cast),
        },
    )


def disable_audit(stage: Stage, cast: Cast) -> Attack:
    """The tenant's audit is switched off, until another administrator notices."""
    scene = stage.scene
    actor = intruder(cast, cast.admin, device=STRANGE_BROWSER, session_id=scene.guid())
    settings = f"{scene.estate.domain}\\Admin Audit Log Settings"
    bypass = (("Identity", cast.accomplice.upn), ("AuditBypassEnabled", "True"))
    _run(stage, actor, "Set-MailboxAuditBypassAssociation", bypass, object_id=cast.accomplice.upn)
    stage.wait(60, 180)
    off = (("UnifiedAuditLogIngestionEnabled", "False"),)
    _run(stage, actor, "Set-AdminAuditLogConfig", off, object_id=settings)
    stage.wait(1200, 2400)
    guardian = cast.guardian
    watchful = Actor(guardian, guardian.office.address(1), guardian.desk, scene.guid())
    on = (("UnifiedAuditLogIngestionEnabled", "True"),)
    _run(stage, watchful, "Set-AdminAuditLogConfig", on, object_id=settings)
    return stage.tell(
        "audit_disabled",
        title="Audit disabled",
        account=(
            f"{cast.admin.upn} switched the tenant's audit off from {cast.address}; "
            f"{guardian.upn} switched it on again."
        ),
        entities={
            "user": (cast.admin.upn,),
            "mailbox": (cast.accomplice.upn,),
            **whereabouts(cast),
        },
    )
