"""A tenant's service announcements: services, issues and posts, and what happens to them as time goes by.

Source: Microsoft Graph v1.0, serviceHealth, serviceHealthIssue and serviceUpdateMessage. The spelling of
values follows the examples on their pages, with either letter case as they have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

SERVICES = {
    "Exchange": "Exchange Online",
    "SharePoint": "SharePoint Online",
    "OneDriveForBusiness": "OneDrive for Business",
    "microsoftteams": "Microsoft Teams",
    "OrgLiveID": "Identity Service",
    "OSDPPlatform": "Microsoft 365 suite",
    "Intune": "Microsoft Intune",
    "PowerBIcom": "Power BI",
}
"""The names of the services by their ids."""
STEP = timedelta(minutes=20)
"""How long an issue that begins while the simulator runs stays in each of its states."""
_PREFIXES = {"Exchange": "EX", "SharePoint": "SP", "OneDriveForBusiness": "OD", "microsoftteams": "TM"}
_FEATURES = ("E-Mail timely delivery", "Access and sign-in", "Files and folders", "Search", "Administration")
_COURSE = ("investigating", "restoringService", "serviceRestored")
_RESOLVED_AT_START, _OPEN_AT_START = 17, 2


@dataclass(slots=True)
class Announcements:
    """The announcements of one tenant."""

    seed: str
    started_at: datetime
    posts_at_start: int = 230
    issues: dict[str, dict[str, Any]] = field(default_factory=dict)
    posts: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: set[tuple[str, str]] = field(default_factory=set)
    """Id and lastModifiedDateTime of every version of an issue or post that there has been."""
    is_still: bool = False
    """True: nothing happens by itself."""
    _steps: int = 0

    def __post_init__(self) -> None:
        """Fill in what there is at the start."""
        random = Random(f"{self.seed}/announcements")
        names = list(SERVICES.values())
        for number in range(_RESOLVED_AT_START + _OPEN_AT_START):
            at = self.started_at - timedelta(hours=random.uniform(3, 24 * 25))
            issue = self.begin(names[number % len(names)], at=at)
            if number < _RESOLVED_AT_START:
                self.change(issue, status="serviceRestored", at=at + timedelta(hours=2))
        for _ in range(self.posts_at_start):
            services = random.sample(names, k=random.choice((1, 1, 1, 2)))
            self.post(services, at=self.started_at - timedelta(hours=random.uniform(1, 24 * 90)))

    def begin(self, service: str, *, at: datetime, status: str = "investigating") -> str:
        """An issue begins; its id."""
        ids = {name: service_id for service_id, name in SERVICES.items()}
        issue = f"{_PREFIXES.get(ids[service], 'MO')}{1_000_000 + len(self.issues)}"
        feature = _FEATURES[len(self.issues) % len(_FEATURES)]
        self.issues[issue] = {
            "id": issue,
            "startDateTime": _instant(at),
            "endDateTime": None,
            "title": f"Some users may be unable to use {service}",
            "impactDescription": f"Users may be unable to use {service}.",
            "classification": "incident" if len(self.issues) % 3 else "advisory",
            "origin": "microsoft",
            "service": service,
            "feature": feature,
            "featureGroup": feature,
            "details": [{"name": "NotifyInApp", "value": "True"}],
            "posts": [],
        }
        self.change(issue, status=status, at=at)
        return issue

    def change(self, issue: str, *, status: str, at: datetime) -> None:
        """An issue is in another state from `at` on; a restored service ends it."""
        fields, is_over = self.issues[issue], status == "serviceRestored"
        fields |= {"status": status, "isResolved": is_over, "lastModifiedDateTime": _instant(at)}
        fields["endDateTime"] = _instant(at) if is_over else None
        text = f"Title: {fields['title']}\nStatus: {status}"
        said = {"contentType": "html", "content": text}
        fields["posts"] = [
            *fields["posts"],
            {"createdDateTime": _instant(at), "postType": "regular", "description": said},
        ]
        self.told.add((issue, _instant(at)))

    def post(self, services: Sequence[str], *, at: datetime) -> str:
        """A post of the message center; its id."""
        post = f"MC{100_000 + len(self.posts)}"
        self.posts[post] = {
            "id": post,
            "startDateTime": _instant(at),
            "endDateTime": _instant(at + timedelta(days=120)),
            "lastModifiedDateTime": _instant(at),
            "title": f"A change of {services[0]} is coming ({post})",
            "category": "planForChange" if len(self.posts) % 2 else "stayInformed",
            "severity": "normal",
            "tags": ["New feature"],
            "isMajorChange": len(self.posts) % 7 == 0,
            "actionRequiredByDateTime": None,
            "services": list(services),
            "expiryDateTime": None,
            "hasAttachments": False,
            "details": [],
            "body": {"contentType": "html", "content": "<p>Something will change.</p>"},
            "viewPoint": None,
        }
        self.told.add((post, _instant(at)))
        return post

    def revise(self, post: str, *, at: datetime) -> None:
        """A post is changed."""
        self.posts[post] |= {"lastModifiedDateTime": _instant(at), "tags": ["Updated message"]}
        self.told.add((post, _instant(at)))

    def listed(self, kind: str, now: datetime, *, since: datetime | None) -> list[dict[str, Any]]:
        """The announcements of a kind as they are at `now`, perhaps those alone modified from `since` on."""
        self._go_on(now)
        if kind == "healthOverviews":
            return [self._overview(service_id, name) for service_id, name in SERVICES.items()]
        listed = self.issues if kind == "issues" else self.posts
        oldest = "" if since is None else _instant(since)
        return [one for one in listed.values() if one["lastModifiedDateTime"] >= oldest]

    def _overview(self, service_id: str, name: str) -> dict[str, Any]:
        open_ = [one for one in self.issues.values() if one["service"] == name and not one["isResolved"]]
        status = "serviceDegradation" if open_ else "serviceOperational"
        return {"service": name, "status": status, "id": service_id}

    def _go_on(self, now: datetime) -> None:
        """Let happen what is due: an issue begins each hour, and is over 40 minutes later; a post is made."""
        names = list(SERVICES.values())
        while not self.is_still and now >= self.started_at + (self._steps + 1) * STEP:
            self._steps += 1
            at, (hour, step) = self.started_at + self._steps * STEP, divmod(self._steps - 1, 3)
            if step == 0:
                self.begin(names[hour % len(names)], at=at)
                self.post([names[(hour + 1) % len(names)]], at=at)
            else:
                self.change(list(self.issues)[-1], status=_COURSE[step], at=at)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
