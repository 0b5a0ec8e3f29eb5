"""Whoever comes from Devo finds each alert of its pack under the name it has there."""

from __future__ import annotations

import pytest
from promises import guarantee
from verdicts import packs

SUPPORTED = (
    "SecOpsO365AddedServicePrincipal",
    "SecOpsO365BypassMFAviaIP",
    "SecOpsO365DisableMFA",
    "SecOpsO365ExcessiveAuthFailureAttempts",
    "SecOpsO365ExcessiveSSOLoginFailures",
    "SecOpsO365MailboxAuditBypass",
    "SecOpsO365NewFederatedDomain",
    "SecOpsO365OneDriveDownload",
    "SecOpsO365PhishAttempt",
    "SecOpsO365PSTExportAlert",
    "SecOpsO365SusMailboxDelegation",
    "SecOpsO365SuspiciousAdminEmailForwarding",
    "SecOpsCDIocIpSuspiciousO365Data",
    "SecOpsAzureADThreatIntelligenceO365",
    "SecOpsO365BruteForce",
    "SecOpsO365ImpossibleTravel",
    "SecOpsO365UserPasswordChange",
    "SecOpsO365UserPasswordReset",
    "SecOpsO365AuthExcessiveFailedLoginsSingleSource",
    "SecOpsO365AuthExcessiveFailedLoginsUserAuthAll",
    "SecOpsActivityAnonymousIPAddressesO365",
    "SecOpsActivityFromAnonymousIPO365",
    "SecOpsActivityInfrequentCountryO365",
    "SecOpsActivityPerformedByTerminatedUserO365",
    "SecOpsAdministrativeActivityFromNonCorporateIPO365",
    "SecOpsAnomalousBehaviorDiscoveredUsersO365",
    "SecOpsArrowAdminFailedLogonO365",
    "SecOpsAWSInstancesCreatedOrDeletedO365",
    "SecOpsCloudDiscoveryAnomalyDetectionO365",
    "SecOpsDataExfiltrationToUnsanctionedAppsO365",
    "SecOpsGroupMembershipModifiedO365",
    "SecOpsImpossibleTravelO365",
    "SecOpsMaliciousOAuthAppConsentO365",
    "SecOpsMalwareDetectionO365",
    "SecOpsMFADisabledAlertO365",
    "SecOpsMultipleDeleteVMO365",
    "SecOpsMultipleStorageDeletionActivitiesO365",
    "SecOpsMultipleVMCreationActivitiesO365",
    "SecOpsPermissionsAddedMailboxFolderO365",
    "SecOpsRansomwareActivityO365",
    "SecOpsSuspiciousEmailDeletionActivityO365",
    "SecOpsSuspiciousInboxForwardingO365",
    "SecOpsSuspiciousInboxManipulationRuleO365",
    "SecOpsSuspiciousOAuthAppFileDownloadO365",
    "SecOpsUnusualAdministrativeActivityO365",
    "SecOpsUnusualFileDeletionActivityO365",
    "SecOpsUnusualFileDownloadO365",
    "SecOpsUnusualImpersonatedActivityO365",
)
"""All but SecOpsPhishingEmailRansomDistributionCampaign: this feed has no message trace."""


@guarantee(33)
@pytest.mark.parametrize("name", SUPPORTED)
def test_an_alert_of_devo_is_found_under_its_name(name: str) -> None:
    """In any case of letters, and it is one that alerts."""
    rules = [rule for rule in packs().find(name.lower()) if rule.alerts]

    assert [rule.extension.aliases.count(name) for rule in rules] == [1]
