"""Steps on accounts: sessions, sign-in, password, second factor, devices, addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace

from m365watch.response.execution.admin_lockout import LOOK_FOR_ANOTHER, NOT_THE_LAST, PERMISSION, THEMSELVES
from m365watch.response.plans.alert_evidence import Account, Clues
from m365watch.response.steps.command_escaping import (
    guid_in,
    is_account,
    looked_up,
    odata,
    of_directory,
    powershell,
    segment,
)
from m365watch.response.steps.step import Act, GraphCall, Revise, Step

_DOCUMENTATION = tuple(
    map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"))
)
"""Where strangers of a simulated tenant come from: public to it. Source: RFC 5737 and RFC 3849."""

BRIDGES = "d29b2b05-8046-44ba-8758-1e26182fcf32"
"""The template id of the role Directory Synchronization Accounts. Source: Entra, "Built-in roles"."""
_DEVICES = of_directory("displayName", "operatingSystem", "registrationDateTime", "accountEnabled")
_METHODS = of_directory("@odata.type", "displayName", "phoneNumber", "createdDateTime")
IF_NO_ACCOUNT = "# if no account has that id:"
"""How the line begins that looks for an application in an account's place."""
ADDRESSES_SHOWN = 10
"""Addresses that a title names."""


def _of_each(clues: Clues, step_of: Callable[[Account], Step]) -> list[Step]:
    """A step for each account; a person looks first at what may carry the directory of the house."""
    own = (
        _unless_bridge(step_of(one), one) if clues.is_called_bridge(one.name) else step_of(one)
        for one in clues.accounts
    )
    own = (_or_application(step, one) for step, one in zip(own, clues.accounts, strict=True))
    return [*own, *(_end_way_in(step_of(one).word, one) for one in clues.accounts_outside)]


def _end_way_in(word: str, one: Account) -> Step:
    """Of an account of another organisation: whatever is done to it is done there."""
    return Step(
        word,
        f"End the way in of {one.told}: it is an account of another organisation",
        powershell=(
            "Get-MgPolicyCrossTenantAccessPolicyPartner -All | Format-Table TenantId,IsServiceProvider",
            (
                "Get-MgUser -All -Filter \"creationType eq 'Invitation'\" -Property Id,Mail,AccountEnabled"
                f" | Where-Object Mail -eq {powershell(one.name)} | Format-List Id,Mail,AccountEnabled"
            ),
        ),
        notes=(
            (
                "By hand: there is no such account to disable here. A partner administers the tenant by"
                " delegation: take its roles away (Microsoft 365 admin center, Partner relationships),"
                " and call it, for it has an intruder. If it was invited, the second command finds it."
            ),
        ),
    )


def _or_application(step: Step, one: Account) -> Step:
    """Some records have an object's id in the place of a name, and not only accounts have one."""
    number = guid_in(one.name)
    if number != one.name.lower():
        return step
    look = (
        f"{IF_NO_ACCOUNT} Get-MgServicePrincipal -All -Filter \"id eq '{number}' or appId eq"
        f" '{number}'\" | Format-List Id,AppId,DisplayName,AccountEnabled"
    )
    shut_out = (
        "# if nobody rightly works with that: Update-MgServicePrincipal -ServicePrincipalId ID"
        " -AccountEnabled:$false"
    )
    why = (
        "The record has an id in the place of a name. Where no account has it (Graph: 404), it is an"
        " application's: find that by the last command but one, and disable it instead."
    )
    return replace(step, powershell=(*step.powershell, look, shut_out), notes=(*step.notes, why))


def _unless_bridge(step: Step, one: Account) -> Step:
    """Without it nothing is carried any more; but its name is no proof, for anybody can be called so."""
    look = f"Get-MgUserMemberOfAsDirectoryRole -UserId {powershell(one.name)}"
    columns = "DisplayName,RoleTemplateId"
    only_called_so = (
        "It has the name of the account that carries the directory of the house to Entra, which anybody may"
        " choose. If it has the role Directory Synchronization Accounts, nothing is carried any more once it"
        " is locked out: look at the server that it runs on. --yes leaves it alone."
    )
    return replace(
        step,
        title=f"{step.title}, unless it carries your directory",
        powershell=(
            f"{look} -All -Property {columns} | Format-Table {columns}",
            *(
                line if line.startswith("Get-") else f"# unless {BRIDGES} is among these: {line}"
                for line in step.powershell
            ),
        ),
        notes=(only_called_so, *step.notes),
        asks_always=True,
    )


def revoke_sessions(clues: Clues) -> list[Step]:
    """Every refresh token and session cookie ends.

    Source: Microsoft Graph, user: revokeSignInSessions.
    """
    return _of_each(clues, _revoke)


def _revoke(one: Account) -> Step:
    return Step(
        "revoke_sessions",
        f"End all sessions of {one.told}",
        operations=(Act(GraphCall("POST", f"{path_of(one)}/revokeSignInSessions")),),
        powershell=(f"Revoke-MgUserSignInSession -UserId {powershell(one.name)}",),
        permissions=("User.RevokeSessions.All",),
        notes=(
            (
                "Access tokens that are out live on, for up to an hour, where nothing evaluates access"
                " continuously; a guest's sessions end in the home tenant only."
            ),
        ),
    )


def disable_account(clues: Clues) -> list[Step]:
    """Nobody signs in with it any more."""
    return _of_each(clues, _disable)


def _disable(one: Account) -> Step:
    return Step(
        "disable_account",
        f"Disable the account {one.told}",
        operations=(Revise(path_of(one), {"accountEnabled": False}, locks_out=True),),
        powershell=(
            LOOK_FOR_ANOTHER,
            f"Update-MgUser -UserId {powershell(one.name)} -AccountEnabled:$false",
        ),
        permissions=(PERMISSION, "User.EnableDisableAccount.All", "User.Read.All"),
        notes=(
            *((THEMSELVES,) if one.acted else ()),
            (
                "An account that is synchronised from Active Directory has to be disabled there as well;"
                " one with an administrator's role needs a role of the application, too."
            ),
            NOT_THE_LAST,
        ),
    )


def reset_password(clues: Clues) -> list[Step]:
    """By hand: whoever hands out the new password has to know whom they give it to."""
    return _of_each(clues, _reset)


def _reset(one: Account) -> Step:
    return Step(
        "reset_password",
        f"Give {one.told} a new password",
        powershell=(
            # Windows PowerShell has no -MaskInput; and a password that was given is not kept for the next.
            # In one line: of two that are pasted, the prompt would take the second for the password.
            (
                looked_up(
                    "password",
                    "[Net.NetworkCredential]::new('', (Read-Host 'New password' -AsSecureString)).Password",
                )
                + f"; if ($password) {{ Update-MgUser -UserId {powershell(one.name)} -PasswordProfile"
                " @{Password = $password; ForceChangePasswordNextSignIn = $true} }; $password = $null"
            ),
        ),
        notes=(
            "By hand: hand it over by telephone or in person; mail may be read by the intruder.",
            "An account that is synchronised from Active Directory gets its password there.",
        ),
    )


def restore_mfa(clues: Clues) -> list[Step]:
    """Look at the second factors, and take away what is not the owner's.

    First at those of the person of whom they were changed, whom the alert need not be about.
    """
    changed = clues.entity("target")
    known = {one.name.lower() for one in clues.accounts}
    others = {one.lower(): one for one in changed if is_account(one)}
    return [
        Step(
            "restore_mfa",
            f"Look at the second factors of {one.told}; remove those that are not the owner's",
            powershell=(
                f"Get-MgUserAuthenticationMethod -UserId {powershell(one.name)} -All | {_METHODS}",
                (
                    "# then, by its kind: Remove-MgUserAuthenticationPhoneMethod"
                    f" -UserId {powershell(one.name)} -PhoneAuthenticationMethodId ID"
                ),
            ),
            notes=(
                (
                    "By hand: only the owner knows which are theirs. The others go now, for with them the"
                    " password may be reset. Have the owner register anew at the very end, and see that a"
                    " policy asks for the second factor again."
                ),
            ),
        )
        for one in (*(Account(one) for name, one in others.items() if name not in known), *clues.accounts)
    ]


def remove_device(clues: Clues) -> list[Step]:
    """Devices are disabled, not deleted: that can be taken back."""
    return [
        Step(
            "remove_device",
            f"Look at the devices of {one.told}; disable the intruder's",
            powershell=(
                f"Get-MgUserRegisteredDevice -UserId {powershell(one.name)} -All | {_DEVICES}",
                "Update-MgDevice -DeviceId ID -AccountEnabled:$false",
            ),
            notes=(
                (
                    "By hand: the alert does not say which device it is. Registered since"
                    f" {clues.first_at} is the likeliest; a mailbox's own list: Get-MobileDevice."
                ),
            ),
        )
        for one in clues.accounts
        if not one.acted
    ]


def block_address(clues: Clues) -> list[Step]:
    """A named location, for a policy of conditional access that blocks it.

    Where one person was seen at several addresses, one of them is where that person sits, and nobody but that
    person knows which; an only one may be, too.
    """
    addresses, users = clues.entity("address"), clues.entity("user")
    if len(addresses) > 1 and len(users) == 1:
        return [_look_whose(addresses, users[0])]
    return [_block(one, users[0] if len(users) == 1 else "") for one in addresses]


def _look_whose(addresses: tuple[str, ...], user: str) -> Step:
    shown = ", ".join(addresses[:ADDRESSES_SHOWN])
    more = f" and {len(addresses) - ADDRESSES_SHOWN} more" if len(addresses) > ADDRESSES_SHOWN else ""
    return Step(
        "block_address",
        f"Ask which of these addresses are not those of {user}: {shown}{more}",
        notes=(
            (
                "By hand: an address from which the owner works as well must stay open. Those that are not"
                " theirs: a named location in Entra, and a policy of conditional access that blocks it."
            ),
        ),
    )


_IF_NOT = "# if nobody of yours is there: "


def _block(address: str, user: str) -> Step:
    """Where the alert is about one `user`, the address may be where that person sits."""
    cidr = cidr_of(address)
    if not cidr:
        why = "By hand: it is no address of the public Internet; whoever is behind it is near."
        return Step("block_address", f"See who is behind {address}", notes=(why,))
    kind = "iPv6CidrRange" if ":" in cidr else "iPv4CidrRange"
    return Step(
        "block_address",
        f"Block sign-ins from {cidr}, if it is not {user}'s" if user else f"Block sign-ins from {cidr}",
        powershell=(
            (
                f"{_IF_NOT if user else ''}New-MgIdentityConditionalAccessNamedLocation -BodyParameter"
                " @{'@odata.type' = '#microsoft.graph.ipNamedLocation'; displayName ="
                f" {powershell(f'Blocked {cidr}')}; isTrusted = $false; ipRanges ="
                f" @(@{{'@odata.type' = '#microsoft.graph.{kind}';"
                f" cidrAddress = {powershell(cidr)}}})}}"
            ),
        ),
        notes=(
            (
                "By hand: then name the location in a policy of conditional access that blocks it."
                " See first that nobody of yours is behind that address, and that an emergency"
                " account is exempt."
            ),
        ),
    )


def path_of(one: Account) -> str:
    """Where Graph has the account."""
    if one.name.startswith("$"):
        return f"/users({odata(one.name)})"  # Graph reads /users/$x as a word of OData
    return f"/users/{segment(one.name)}"


def cidr_of(address: str) -> str:
    """The address as a network of its own; empty where it is none of the public Internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    is_public = found.is_global or any(found in network for network in _DOCUMENTATION)
    return f"{found}/{found.max_prefixlen}" if is_public else ""
