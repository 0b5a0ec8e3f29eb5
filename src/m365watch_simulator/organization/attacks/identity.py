"""Attacks on accounts: guessed passwords, bad consents, lost second factors, stolen roles."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from m365watch_simulator.organization.attacks.attack import Attack, Cast, Stage, intruder, whereabouts
from m365watch_simulator.organization.estate import EXCHANGE_ONLINE, OFFICE
from m365watch_simulator.organization.network import ATTACK_TOOL, STRANGE_BROWSER
from m365watch_simulator.organization.people import Actor
from m365watch_simulator.organization.scene import changed
from m365watch_simulator.organization.shapes import directory, mailbox, signin

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Person

_SPRAYED = 30
_GUESSES = 6
_PROMPTS = 11
SCOPES = "Mail.Read Mail.Send Contacts.Read Files.Read.All offline_access User.Read"
"""What the bad application asks for."""


def spray_passwords(stage: Stage, cast: Cast) -> Attack:
    """One address tries the same passwords on many accounts, until one lets it in."""
    scene = stage.scene
    people = scene.dice.sample(scene.estate.people, min(_SPRAYED, len(scene.estate.people)))
    targets = [*(person for person in people if person is not cast.victim), cast.victim]
    for _ in range(2):
        for person in targets:
            _guess(stage, cast, person)
        stage.wait(240, 480)
    for _ in range(_GUESSES):
        stage.wait(15, 35)
        _guess(stage, cast, cast.victim)
    stage.wait(15, 35)
    visitor = intruder(cast, cast.victim, device=STRANGE_BROWSER, session_id=scene.guid())
    stage.keep(signin.signed_in(scene, visitor, application=OFFICE, request="OAuth2:Authorize"))
    return stage.tell(
        "password_spray",
        title="Password spray, then a success",
        account=(
            f"{cast.address} ({cast.place.country}) tried passwords on {len(targets)} accounts "
            f"and got into {cast.victim.upn}."
        ),
        entities={"user": (cast.victim.upn,), **whereabouts(cast)},
    )


def _guess(stage: Stage, cast: Cast, person: Person) -> None:
    stage.wait(2, 5)
    visitor = intruder(cast, person, device=ATTACK_TOOL, session_id=stage.scene.guid())
    stage.keep(
        signin.sign_in_failed(stage.scene, visitor, failure=signin.BAD_PASSWORD, application=EXCHANGE_ONLINE)
    )


def phish_consent(stage: Stage, cast: Cast) -> Attack:
    """Somebody lets an unknown application read their mail, and it does."""
    scene, person, application = stage.scene, cast.consenter, cast.application
    actor = Actor(person, person.office.address(person.number % 3), person.desk, scene.guid())
    stage.keep(signin.signed_in(scene, actor, request="Login:login"))
    stage.wait(20, 60)
    stage.keep(
        directory.application_noted(scene, actor, operation="Add service principal.", application=application)
    )
    stage.keep(directory.grant_added(scene, actor, application=application, scopes=f" {SCOPES}"))
    granted = "Add app role assignment grant to user."
    stage.keep(directory.application_noted(scene, actor, operation=granted, application=application))
    stage.keep(directory.consented(scene, actor, application=application, scopes=SCOPES))
    robot = intruder(cast, person, device=ATTACK_TOOL, session_id=scene.guid())
    for _ in range(12):
        stage.wait(60, 240)
        stage.keep(
            mailbox.mail_read(
                scene, robot, application_id=application.app_id, count=scene.dice.randint(5, 25)
            )
        )
    return stage.tell(
        "consent_phishing",
        title="Consent phishing",
        account=(
            f"{person.upn} granted {application.name} the scopes {SCOPES}, and it read the mailbox "
            f"from {cast.address} ({cast.place.country})."
        ),
        entities={
            "user": (person.upn,),
            "app": (application.app_id, application.name),
            **whereabouts(cast),
        },
    )


def remove_second_factor(stage: Stage, cast: Cast) -> Attack:
    """An administrator gives in to prompts; his account then strips others of their factors."""
    scene = stage.scene
    actor = intruder(cast, cast.admin, device=STRANGE_BROWSER, session_id=scene.guid())
    for _ in range(_PROMPTS):
        stage.keep(signin.sign_in_failed(scene, actor, failure=signin.MFA_DENIED))
        stage.wait(20, 45)
    stage.keep(signin.signed_in(scene, actor, request="SAS:EndAuth"))
    stage.wait(120, 300)
    _strip(stage, actor, cast.admin, operation=directory.USER_CHANGED)
    stage.wait(60, 180)
    _strip(stage, actor, cast.treasurer, operation=directory.MFA_DISABLED)
    stage.wait(30, 90)
    methods = json.dumps([{"Default": True, "MethodType": 7}])
    stage.keep(
        directory.user_changed(
            scene,
            actor,
            person=cast.treasurer,
            operation=directory.USER_CHANGED,
            changes=[changed("StrongAuthenticationMethod", "[]", methods)],
        )
    )
    return stage.tell(
        "mfa_removal",
        title="Second factor removed",
        account=(
            f"{cast.admin.upn}, worn down by {_PROMPTS} prompts from {cast.address}, switched off "
            f"the second factor of {cast.admin.upn} and {cast.treasurer.upn}."
        ),
        entities={"user": (cast.admin.upn, cast.treasurer.upn), **whereabouts(cast)},
    )


def _strip(stage: Stage, actor: Actor, person: Person, *, operation: str) -> None:
    """Take the requirement of a second factor from somebody."""
    new = "[]" if operation == directory.MFA_DISABLED else directory.mfa_state(0)
    change = changed("StrongAuthenticationRequirement", new, directory.mfa_state(1))
    stage.keep(
        directory.user_changed(stage.scene, actor, person=person, operation=operation, changes=[change])
    )


def grant_admin_role(stage: Stage, cast: Cast) -> Attack:
    """A new account is made and becomes Global Administrator within minutes."""
    scene = stage.scene
    actor = intruder(cast, cast.admin, device=STRANGE_BROWSER, session_id=scene.guid())
    stage.keep(signin.signed_in(scene, actor, request="Kmsi:kmsi"))
    stage.wait(60, 180)
    stage.keep(directory.account_added(scene, actor, person=cast.accomplice))
    stage.wait(60, 300)
    role = directory.GLOBAL_ADMINISTRATOR
    stage.keep(directory.role_changed(scene, actor, member=cast.accomplice, role=role))
    stage.wait(120, 300)
    visitor = intruder(cast, cast.accomplice, device=STRANGE_BROWSER, session_id=scene.guid())
    stage.keep(signin.signed_in(scene, visitor, request="Login:login"))
    return stage.tell(
        "admin_role_granted",
        title="Administrator role granted",
        account=(
            f"{cast.admin.upn} made {cast.accomplice.upn} from {cast.address} and gave it the role {role[0]}."
        ),
        entities={
            "user": (cast.admin.upn, cast.accomplice.upn),
            "role": role,
            **whereabouts(cast),
        },
    )
