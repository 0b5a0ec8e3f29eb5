"""Output `syslog`: one line a record to any receiver of syslog, over TCP, TLS or UDP."""

from m365watch.outputs.syslog.output import SyslogOutput

__all__ = ["SyslogOutput"]
