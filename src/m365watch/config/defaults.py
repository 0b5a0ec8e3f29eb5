"""What holds where a configuration says nothing of it, for all who read one."""

from __future__ import annotations

from m365watch.common.model import Service
from m365watch.config.models.inputs import MaskSection

COLLECTING = tuple(service for service in Service if service.content)
"""The services that collect something of their own."""
BY_DEFAULT = tuple(service for service in COLLECTING if service.content_type)
"""Those that are collected where none is named: what is in Graph needs permissions of its own."""

MICROSOFTS_REQUESTS_PER_MINUTE = 2_000
"""The budget that every tenant has at least.

Source: Management Activity API reference, "API throttling".
"""

MEBIBYTE_BYTES = 1_048_576
"""A megabyte where it measures memory, a queue or a request."""

IMAGE_VARIABLE = "COLLECTOR_IMAGE"
"""The variable in which Devo's containers have the name of their image."""

ANY_TEXT = "(?s).+"
"""The pattern that matches any text whole."""

MASKED = "***"

_CONDITIONS = ("PolicyDetails", "*", "Rules", "*", "ConditionsMatched", "SensitiveInformation", "*")
_ON_DEVICE = ("EndpointMetaData", "SensitiveInformation", "*")
_DETECTIONS = "SensitiveInformationDetections"

DETECTED_VALUES = tuple(
    MaskSection.model_construct(
        name=(*place, *detections, "DetectedValues"), value=MASKED, string_patterns=(ANY_TEXT,)
    )
    for place in (_CONDITIONS, _ON_DEVICE)
    for detections in ((_DETECTIONS,), (_DETECTIONS, "*"))
)
"""Every text and number below `DetectedValues`: what was found, and the excerpt around it.

Source: Management Activity API schema, "DLP schema": SensitiveInformationDetections complex type, which the
page calls an object in one place and an array of objects in another; both are masked.
"""
