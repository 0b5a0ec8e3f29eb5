"""The service `service_health`: named or not collected, with a Graph to ask."""

from __future__ import annotations

from m365watch.common.model import Service
from m365watch.config.models.settings import TenantSettings
from settings_documents import filled_in, mistakes_of, settings_of

OWN_CLOUD = {"login_url": "http://127.0.0.1:1", "management_url": "http://127.0.0.1:2"}


def tenant_of(**changes: object) -> TenantSettings:
    """The one tenant of a document with these changes."""
    [tenant] = settings_of(filled_in(**changes)).tenants
    return tenant


def test_service_health_is_collected_only_where_it_is_named() -> None:
    """It needs permissions of Graph, which nobody gave for the audit feed."""
    [health] = tenant_of(services={"service_health": {}}).services

    assert Service.SERVICE_HEALTH not in {one.service for one in tenant_of().services}
    assert health.service is Service.SERVICE_HEALTH
    assert health.announcements == ("overviews", "issues", "messages")


def test_its_announcements_may_be_chosen() -> None:
    """One as a text, several as a list; none at all, or another word, is a mistake."""
    [health] = tenant_of(services={"service_health": {"announcements": "issues"}}).services
    wrong = [
        mistakes_of(filled_in(services={"service_health": {"announcements": given}}))
        for given in ([], ["weather"], 7)
    ]

    assert health.announcements == ("issues",)
    assert [len(lines) for lines in wrong] == [1, 1, 1]
    assert all(
        "announcements" in line and "a list of overviews, issues and messages" in line for [line] in wrong
    )


def test_a_cloud_of_ones_own_has_to_name_its_graph() -> None:
    """Only where the service is collected: the audit feed does without."""
    wrong = mistakes_of(filled_in(cloud=OWN_CLOUD, services={"service_health": {}, "dlp": {}}))
    graph = OWN_CLOUD | {"graph_url": "http://127.0.0.1:3"}

    assert wrong == [
        "inputs.office365.cloud.graph_url: is missing; service_health asks Microsoft Graph there"
    ]
    assert tenant_of(cloud=OWN_CLOUD).cloud.graph_url == ""
    assert tenant_of(cloud=graph, services={"service_health": {}}).cloud.graph_url == graph["graph_url"]
    off = {"service_health": {"enabled": False}, "dlp": {}}
    assert len(tenant_of(cloud=OWN_CLOUD, services=off).services) == 1
