"""Output `devo_http`: records posted to Devo's HTTP endpoint, with a token in place of a certificate."""

from m365watch.outputs.devo_http.output import DevoHttpOutput

__all__ = ["DevoHttpOutput"]
