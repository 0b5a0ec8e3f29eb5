"""Attacks on files: taken in masses, or opened to the whole world."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from m365watch_simulator.organization.attacks.attack import Attack, Cast, Stage, intruder, whereabouts
from m365watch_simulator.organization.network import STRANGE_BROWSER
from m365watch_simulator.organization.people import Actor
from m365watch_simulator.organization.shapes import sharepoint, signin

if TYPE_CHECKING:
    from m365watch_simulator.organization.estate import File

_FETCHED = 80
_LINKED = 6


def download_masses(stage: Stage, cast: Cast) -> Attack:
    """One session fetches most of a site's files within minutes."""
    scene = stage.scene
    actor = intruder(cast, cast.victim, device=STRANGE_BROWSER, session_id=scene.guid())
    site = scene.pick(scene.estate.sites)
    stage.keep(signin.signed_in(scene, actor, request="OAuth2:Authorize"))
    stage.wait(30, 90)
    for file in scene.dice.sample(site.files, _FETCHED):
        stage.wait(0.4, 2.6)
        stage.keep(
            sharepoint.file_touched(
                scene,
                actor,
                operation="FileDownloaded",
                workload="SharePoint",
                site=site,
                file=file,
            )
        )
    return stage.tell(
        "mass_download",
        title="Mass download",
        account=(
            f"{cast.victim.upn} fetched {_FETCHED} files of {site.title} from {cast.address} "
            f"({cast.place.country}) within minutes."
        ),
        entities={"user": (cast.victim.upn,), "site": (site.url,), **whereabouts(cast)},
    )


def open_links(stage: Stage, cast: Cast) -> Attack:
    """Somebody who leaves opens files of their OneDrive to anyone with the link."""
    scene, person = stage.scene, cast.leaver
    actor = Actor(person, person.home.address(person.number), person.desk, scene.guid())
    files = scene.dice.sample(scene.estate.drives[person.number].files, _LINKED)
    for file in files:
        _open(stage, actor, file)
        stage.wait(20, 120)
    guest = ("recruiter@rival.example", "Guest")
    stage.keep(
        sharepoint.shared(
            scene,
            actor,
            operation="AddedToSecureLink",
            workload="OneDrive",
            target=guest,
            file=files[0],
        )
    )
    nobody = replace(person, upn=f"urn:spo:anon#{scene.dice.getrandbits(256):064x}", puid="")
    stranger = intruder(cast, nobody, device=STRANGE_BROWSER, session_id="")
    for file in files:
        stage.wait(120, 480)
        stage.keep(
            sharepoint.shared(scene, stranger, operation="AnonymousLinkUsed", workload="OneDrive", file=file)
        )
    return stage.tell(
        "anonymous_links",
        title="Files opened by anonymous links",
        account=(
            f"{person.upn} made anonymous links to {_LINKED} files, which were used from "
            f"{cast.address} ({cast.place.country})."
        ),
        entities={
            "user": (person.upn,),
            "file": tuple(file.url for file in files),
            **whereabouts(cast),
        },
    )


def _open(stage: Stage, actor: Actor, file: File) -> None:
    """Make an anonymous link; the service reports a sharing group along with it."""
    scene = stage.scene
    group = f"SharingLinks.{file.unique_id}.AnonymousEdit.{scene.guid()}"
    stage.keep(
        sharepoint.shared(
            scene,
            actor,
            operation="SharingSet",
            workload="OneDrive",
            target=(group, "SharePointGroup"),
            file=file,
        )
    )
    stage.keep(
        sharepoint.shared(
            scene,
            actor,
            operation="AnonymousLinkCreated",
            workload="OneDrive",
            detail="<Type>Edit</Type><MembersCanShareApplied>False</MembersCanShareApplied>",
            file=file,
        )
    )
