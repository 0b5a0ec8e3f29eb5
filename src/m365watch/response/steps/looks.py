"""What a person is shown before a choice, of lists whose cmdlets show ids alone.

Graph's cmdlets have most of what a thing of the directory is beside it, and put none of that on the screen;
what stands in a list PowerShell cuts after four.

Source: Microsoft Graph PowerShell, directoryObject and AdditionalProperties; about_Preference_Variables.
"""

from __future__ import annotations


def of_directory(*properties: str) -> str:
    """What shows these of each object, by the names that Graph has for them, and its id."""
    columns = (f"@{{n='{one}';e={{$_.AdditionalProperties['{one}']}}}}" for one in properties)
    return f"Format-List Id,{','.join(columns)}"


WHO = of_directory("@odata.type", "displayName", "userPrincipalName")
"""What shows people, groups and applications."""
ROLE = "@{n='Role';e={$_.RoleDefinition.DisplayName}}"
"""A column with what a role is called, where its definition is expanded."""
