"""What a file of certificates and keys is, by its bytes: a key that nobody knows for one is not guarded."""

from __future__ import annotations

import re

WHOLE_CERTIFICATE = re.compile(
    rb"-----BEGIN (?:X509 )?CERTIFICATE-----.*?-----END (?:X509 )?CERTIFICATE-----", re.DOTALL
)
PEM_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----")
PEM_TRUSTED = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----")
"""One that OpenSSL takes for a connection; an application's own certificate cannot be of its kind TRUSTED."""
PEM_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
DER = b"\x30"
"""What a file that is no PEM begins with: a sequence."""
PFX = re.compile(rb"\x30(?:[\x00-\x7f]|\x80|\x81.|\x82..|\x83...|\x84....)\x02\x01\x03", re.DOTALL)
"""A sequence that begins with the version 3, of whatever length."""
