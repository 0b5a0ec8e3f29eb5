"""Other applications: Power BI (20), Yammer (22), Forms (66), Compliance Manager (155), Copilot (261)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from m365watch_simulator.organization.network import spelled
from m365watch_simulator.organization.shapes.common import common_block

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Actor
    from m365watch_simulator.organization.scene import Record, Scene


def report_viewed(scene: Scene, actor: Actor) -> Record:
    """Somebody looked at a report of Power BI, whose records carry no Version."""
    site = scene.pick(scene.estate.sites)
    record = _power_bi(scene, actor, operation="ViewReport", object_id=site.title)
    report_id, dataset = site.list_id, f"{site.title} figures"
    record["ActivityId"] = scene.guid()
    record["AppId"] = site.site_id
    record["AppName"] = site.title
    record["AppReportId"] = site.web_id
    record["ArtifactId"] = report_id
    record["ArtifactKind"] = "Report"
    record["ArtifactName"] = site.title
    record["CapacityId"] = "00000000-0000-0000-0000-000000000000"
    record["CapacityName"] = "Shared"
    record["ConsumptionMethod"] = "Power BI Web"
    record["DatasetId"] = site.site_id
    record["DatasetName"] = dataset
    record["DistributionMethod"] = "Shared"
    record["IsSuccess"] = True
    record["ItemName"] = site.title
    record["RefreshEnforcementPolicy"] = 0
    record["ReportId"] = report_id
    record["ReportName"] = site.title
    record["ReportType"] = "PowerBIReport"
    record["WorkSpaceName"] = site.title
    return record


def artifact_created(scene: Scene, actor: Actor) -> Record:
    """Somebody made something new in Power BI."""
    site = scene.pick(scene.estate.sites)
    record = _power_bi(scene, actor, operation="CreateArtifact", object_id=scene.guid(), result="InProgress")
    record["Experience"] = "Power BI"
    record["ObjectDisplayName"] = f"{site.title} pipeline"
    record["ObjectType"] = "Lakehouse"
    record["OperationId"] = scene.guid()
    record["OperationProperties"] = json.dumps({"ArtifactName": site.title})
    record["Timestamp"] = f"{scene.created}Z"
    record["WorkspaceName"] = site.title
    return record


def _power_bi(
    scene: Scene, actor: Actor, *, operation: str, object_id: str, result: str | None = None
) -> Record:
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation=operation,
        record_type=20,
        result=result,
        user_key=actor.person.puid,
        user_type=0,
        workload="PowerBI",
        client_ip=actor.address,
        object_id=object_id,
        user_id=actor.person.upn,
        version=None,
    )
    record["Activity"] = operation
    record["RequestId"] = scene.guid()
    record["UserAgent"] = actor.device.user_agent
    record["WorkspaceId"] = scene.pick(scene.estate.sites).site_id
    return record


def yammer_used(scene: Scene, actor: Actor, *, operation: str) -> Record:
    """Somebody opened a file in Yammer, or made a group there."""
    person = actor.person
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation=operation,
        record_type=22,
        result="TRUE",
        user_key=person.puid,
        user_type=0,
        workload="Yammer",
        client_ip=spelled(scene.dice, actor.address),
        object_id=scene.pick(scene.estate.teams).name,
        user_id=person.upn,
    )
    record["ActorUserId"] = person.upn
    record["ActorYammerUserId"] = 1_500_000_000 + person.number
    if operation == "FileVisited":
        record["FileId"] = scene.dice.getrandbits(40)
        record["FileName"] = scene.pick(scene.estate.sites[0].files).name
        record["VersionId"] = scene.dice.getrandbits(40)
    else:
        record["GroupName"] = record["ObjectId"]
    record["YammerNetworkId"] = 7_204_118_350
    return record


def form_edited(scene: Scene, actor: Actor) -> Record:
    """Somebody changed a form."""
    form_id = f"{scene.dice.getrandbits(320):080x}"
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation="EditForm",
        record_type=66,
        result="Succeeded",
        user_key=actor.person.puid,
        user_type=0,
        workload="MicrosoftForms",
        client_ip=actor.address,
        object_id=form_id,
        user_id=actor.person.upn,
    )
    record["ActivityParameters"] = json.dumps({"FormId": form_id, "Page": "Design"})
    record["FormId"] = form_id
    record["FormName"] = scene.pick(("Summer party", "Werkzeugausgabe", "Customer survey"))
    record["FormType"] = 0
    record["FormsUserType"] = 1
    record["SourceApp"] = "Web"
    return record


def score_changed(scene: Scene) -> Record:
    """Compliance Manager rates an improvement action anew."""
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation="COMPLIANCEMANAGER-SCORECHANGE",
        record_type=155,
        result="Successful",
        user_key="ComplianceManager",
        user_type=4,
        workload="ComplianceManager",
        user_id="ComplianceManager",
    )
    record["ActionActivity"] = "ScoreChange"
    record["ActionId"] = scene.guid()
    record["ActionName"] = scene.pick(("Require a second factor", "Review guests monthly"))
    record["ActionProducts"] = []
    record["ActionScope"] = "Tenant"
    record["ActionScore"] = 27.5
    record["ActionScoreChange"] = scene.pick((4.5, -4.5))
    record["Assessments"] = []
    record["ManagedBy"] = "Microsoft"
    record["Solutions"] = []
    record["Templates"] = []
    return record


def copilot_asked(scene: Scene, actor: Actor) -> Record:
    """Somebody asked Copilot something; the record names what it read, not what was said."""
    site = scene.pick(scene.estate.sites)
    file = scene.pick(site.files)
    prompt, answer = scene.guid(), scene.guid()
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation="CopilotInteraction",
        record_type=261,
        user_key=actor.person.object_id,
        user_type=0,
        workload="Copilot",
        client_ip=actor.address,
        user_id=actor.person.upn,
    )
    record["AppIdentity"] = "Copilot.M365Copilot.BizChat"
    record["ClientRegion"] = actor.person.office.country.lower()
    record["CopilotEventData"] = {
        "AISystemPlugin": [{"Id": "BingWebSearch", "Name": "BingWebSearch"}],
        "AccessedResources": [
            {"Id": file.url, "Name": file.name, "SiteUrl": site.url, "Type": file.extension}
        ],
        "AppHost": scene.pick(("Word", "Teams", "BizChat")),
        "Contexts": [{"Id": file.url, "Type": file.extension}],
        "MessageIds": [],
        "Messages": [{"Id": prompt, "isPrompt": True}, {"Id": answer, "isPrompt": False}],
        "ModelTransparencyDetails": [{"ModelName": "default"}],
        "ThreadId": f"19:{scene.dice.getrandbits(128):032x}@thread.v2",
    }
    record["CopilotLogVersion"] = "1.0.0.0"
    return record
