"""Steps on outsiders: guests, and the organisations that they come from."""

from __future__ import annotations

from collections.abc import Iterable

from m365watch.detection.alerts.alert_builder import split_line
from m365watch.detection.fields.email_addresses import bare_addresses
from m365watch.response.execution.admin_lockout import LOOK_FOR_ANOTHER, NOT_THE_LAST, PERMISSION
from m365watch.response.plans.alert_evidence import Account, Clues
from m365watch.response.steps.accounts import path_of
from m365watch.response.steps.command_escaping import is_account, looked_up, powershell
from m365watch.response.steps.step import Revise, Step

_FOR_EVERYBODY = frozenset(
    {
        *("aol.com", "arcor.de", "att.net", "bluewin.ch", "comcast.net", "email.com", "fastmail.com"),
        *("free.fr", "freenet.de", "gmail.com", "googlemail.com", "hey.com", "icloud.com", "inbox.com"),
        *("laposte.net", "libero.it", "mac.com", "mail.com", "mail.de", "mail.ru", "mailbox.org", "me.com"),
        *("naver.com", "orange.fr", "passport.com", "pm.me", "posteo.de", "proton.me", "protonmail.ch"),
        *(
            "protonmail.com",
            "qq.com",
            "rediffmail.com",
            "rocketmail.com",
            "seznam.cz",
            "sfr.fr",
            "t-online.de",
        ),
        *("tuta.com", "tutanota.com", "virgilio.it", "wanadoo.fr", "web.de", "windowslive.com", "ya.ru"),
        *("ymail.com", "zoho.com", "126.com", "163.com"),
    }
)
_OF_PROVIDERS = {
    "aol": "com be de es fr in it jp nl pl se co.uk com.au com.br",
    "gmx": "com net org at ch de es eu fr li us co.uk",
    "hotmail": (
        "com be ca ch cl cz de dk es fi fr gr hu it jp lt lv my nl no ph rs se sg sk co.id co.il co.in co.jp"
        " co.kr co.nz co.th co.uk co.za com.ar com.au com.br com.hk com.tr com.tw com.vn"
    ),
    "live": (
        "com at be ca cl cn de dk fi fr hk ie in it jp nl no ru se co.kr co.uk co.za com.ar com.au com.mx"
        " com.my com.ph com.pt com.sg"
    ),
    "msn": "com",
    "outlook": (
        "com at be cl cz de dk es fr hu ie in it jp kr lv my ph pt sa sg sk co.id co.il co.nz co.th com.ar"
        " com.au com.br com.gr com.tr com.vn"
    ),
    "yahoo": (
        "com at be bg ca ch cl cz de dk es fi fr gr hu ie in it nl no pl pt ro se co.id co.il co.in co.jp"
        " co.kr co.nz co.th co.uk co.za com.ar com.au com.br com.cn com.co com.hk com.mx com.my com.pe"
        " com.ph com.sg com.tr com.tw com.ve com.vn"
    ),
    "yandex": "com by kz ru ua com.tr",
}
"""Below which ends each of them has mail: of any other, somebody else may have the same name."""
_EVERYWHERE = frozenset(f"{name}.{end}" for name, ends in _OF_PROVIDERS.items() for end in ends.split())
"""Domains of mail for everybody: whoever shuts one out shuts out people who have nothing to do with it."""


def block_external_user(clues: Clues) -> list[Step]:
    """A guest's account is disabled, and the organisation that an outsider comes from is shut out of Teams.

    That only where the alert says for certain that its domain is none of the tenant's own; of any other
    somebody has to see first whose it is.
    """
    guests = [one for one in clues.entity("guest") if "#ext#" in one.lower() and is_account(one)]
    # Whoever is of the same domain as the tenant's guests or people is no other organisation's.
    own = {_domain(one) for one in (*guests, *clues.entity("user"))}
    certain = {one.lower() for line in clues.entity("domain") for one in line.split(", ")}
    members = [one for line in clues.values("m365.outside_members") for one in split_line(line)]
    named = dict.fromkeys(_domains((*clues.entity("guest"), *members, *clues.entity("sender"))))
    outside = [one for one in named if one not in own and not _is_for_everybody(one)]
    public = [one for one in named if one not in own and _is_for_everybody(one)]
    return [
        *(_disable_guest(Account(one)) for one in guests),
        *(_shut_out(one) if one in certain else _see_whose(one) for one in outside),
        *(_see_who(one) for one in public if not guests),
    ]


def _is_for_everybody(domain: str) -> bool:
    return domain in _FOR_EVERYBODY | _EVERYWHERE


def _domains(names: Iterable[str]) -> list[str]:
    return [_domain(address) for one in names for address in bare_addresses(one)]


def _domain(name: str) -> str:
    return name.rpartition("@")[2].lower()


def _disable_guest(guest: Account) -> Step:
    return Step(
        "block_external_user",
        f"Disable the guest {guest.name}",
        operations=(Revise(path_of(guest), {"accountEnabled": False}, locks_out=True),),
        powershell=(
            LOOK_FOR_ANOTHER,
            f"Update-MgUser -UserId {powershell(guest.name)} -AccountEnabled:$false",
        ),
        permissions=(PERMISSION, "User.EnableDisableAccount.All", "User.Read.All"),
        notes=(NOT_THE_LAST,),
    )


def _shut_out(domain: str) -> Step:
    pattern = looked_up("domain", f"New-CsEdgeDomainPattern -Domain {powershell(domain)}")
    return Step(
        "block_external_user",
        f"Shut {domain} out of Teams",
        powershell=(
            "Get-MgDomain -All | Format-Table Id,IsVerified  # it must not be among these: they are yours",
            f"# if no partner has it: {pattern}",
            "# Set-CsTenantFederationConfiguration -BlockedDomains @{Add = $domain}",
        ),
        notes=(
            (
                "Teams PowerShell only: Graph cannot do it. Nobody of that organisation gets in any more: see"
                " first that it is no partner's and no sister company's, nor Microsoft's, nor one where"
                " anybody may have an address."
            ),
        ),
    )


def _see_who(domain: str) -> Step:
    """Strangers of one provider have nothing in common."""
    return Step(
        "block_external_user",
        f"See who wrote from {domain}, where anybody may have an address; shut out no domain",
        powershell=(
            "Get-CsTenantFederationConfiguration | Format-List AllowTeamsConsumer,AllowTeamsConsumerInbound",
            (
                "# if nobody may write to you from accounts of their own: Set-CsTenantFederationConfiguration"
                " -AllowTeamsConsumerInbound $false"
            ),
        ),
        notes=("By hand: in Teams whoever was written to can block the one who wrote.",),
    )


def _see_whose(domain: str) -> Step:
    return Step(
        "block_external_user",
        f"See whether {domain} is yours, before anything is done to it",
        powershell=("Get-MgDomain -All | Format-Table Id,IsVerified  # these are yours",),
        notes=(
            (
                "By hand: neither the record nor accepted_domains says on whose side it is. Is it neither"
                " yours nor a partner's: the Teams admin center blocks it, below External access."
            ),
        ),
    )
