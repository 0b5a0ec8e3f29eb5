"""The block of fields that every record begins with, and which content type carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m365watch.common.model import ContentType

if TYPE_CHECKING:
    from m365watch_simulator.organization.scene import Record, Scene

_CONTENT_TYPES = {
    **dict.fromkeys((8, 9, 15), ContentType.AZURE_ACTIVE_DIRECTORY),
    **dict.fromkeys((1, 2, 3, 43, 50, 154), ContentType.EXCHANGE),
    **dict.fromkeys((4, 6, 14, 36, 56), ContentType.SHAREPOINT),
    **dict.fromkeys((11, 13, 63), ContentType.DLP),
}


def content_type_of(record_type: int) -> ContentType:
    """The content type that a record of this type travels in.

    Where 43 and 154 travel is documented nowhere; their Workload is Exchange.
    """
    return _CONTENT_TYPES.get(record_type, ContentType.GENERAL)


def common_block(  # noqa: PLR0913 - a parameter for each common field
    scene: Scene,
    *,
    record_id: str,
    operation: str,
    record_type: int,
    user_key: str,
    user_type: int,
    workload: str,
    user_id: str,
    result: str | None = None,
    client_ip: str | None = None,
    object_id: str | None = None,
    version: int | None = 1,
) -> Record:
    """The common fields in the wire's order; those that are None are left out."""
    record: Record = {
        "CreationTime": scene.created,
        "Id": record_id,
        "Operation": operation,
        "OrganizationId": scene.estate.tenant_id,
        "RecordType": record_type,
    }
    if result is not None:
        record["ResultStatus"] = result
    record["UserKey"] = user_key
    record["UserType"] = user_type
    if version is not None:
        record["Version"] = version
    record["Workload"] = workload
    if client_ip is not None:
        record["ClientIP"] = client_ip
    if object_id is not None:
        record["ObjectId"] = object_id
    record["UserId"] = user_id
    return record
