"""Output `devo_platform`: Devo's syslog over TLS."""

from m365watch.outputs.devo.output import DevoOutput

__all__ = ["DevoOutput"]
