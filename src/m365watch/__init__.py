"""m365watch collects Microsoft 365 audit records and proves that none is missing."""

__version__ = "0.1.0"
