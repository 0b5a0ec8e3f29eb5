"""What `certificate` shows and prints: one that was made and what to do next, or what was looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from rich.console import Group, RenderableType
from rich.text import Text

from m365watch.auth.certificates.certificate import thumbprints_of
from m365watch.auth.certificates.generation import key_credential, manifest_of
from m365watch.auth.certificates.inspection import Examination, KeyFinding, Use, days_left, kind_of
from m365watch.cli.setup.certificate_files import CreatedCertificate
from m365watch.cli.terminal.formatting import count, moment, whole_line
from m365watch.cli.terminal.json_output import SCHEMA, instant
from m365watch.common.text import plain

_WIDTH = 11
"""Of the names in front of what they name."""


def created_page(made: CreatedCertificate) -> RenderableType:
    """What was made, its thumbprints, and what to do next."""
    ends = moment(made.certificate.not_valid_after_utc)
    encrypted = "encrypted" if made.password_file else "not encrypted"
    files = {
        made.certificate_file: "the certificate, which is public: upload this one",
        made.key_file: f"the private key, {encrypted}, for its owner alone: it stays here",
        made.manifest_file: "keyCredentials of the application's manifest, for those who automate the upload",
    }
    if made.pfx_file is not None:
        files[made.pfx_file] = f"certificate and private key in one file, {encrypted}: it stays here as well"
    subject = plain(made.certificate.subject.rfc4514_string())
    made_of = f"RSA, {made.bits:,} bits, valid until {ends} ({count(made.days, 'day')})"
    lines = [
        f"made a certificate for {subject}: {made_of}",
        "",
        *(line for path, what in files.items() for line in (f"  {plain(str(path))}", f"      {what}")),
        "",
        *_thumbprint_lines(made.certificate),
        "",
        "what to do next:",
    ]
    for number, step in enumerate(next_steps(made), 1):
        lines += [f"  {number}. {plain(step[0])}", *(f"       {plain(line)}" for line in step[1:])]
    return Group(*map(whole_line, lines))


def next_steps(made: CreatedCertificate) -> list[list[str]]:
    """What is left for a person to do, in order; each step in lines."""
    keys = [f"{key}: {json.dumps(path, ensure_ascii=False)}" for key, path in made.configuration().items()]
    steps = [
        [
            "In the Entra admin center: App registrations, the application, Certificates & secrets,",
            f"tab Certificates, Upload certificate: {made.certificate_file}",
        ],
        ["See that the thumbprint in the portal is the SHA-1 above."],
        [
            "In the configuration, under the input's credentials, in place of client_secret,",
            "or beside it until this one works:",
            *keys,
        ],
        ["Try it: m365watch check --config FILE"],
        ["Delete the old secret or certificate in the portal once that is fine."],
    ]
    if made.pfx_file is not None:
        steps[2].append("(or the PFX alone: certificate_file names it, and private_key_file is left out)")
    return steps


def created_document(made: CreatedCertificate, *, now: datetime) -> dict[str, Any]:
    """What `certificate create --json` prints; nothing in it is secret."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "files": {
            "certificate": str(made.certificate_file),
            "private_key": str(made.key_file),
            "pfx": None if made.pfx_file is None else str(made.pfx_file),
            "manifest": str(made.manifest_file),
        },
        "encrypted": made.password_file is not None,
        **_certificate_document(made.certificate, now=now),
        "manifest": manifest_of([made.certificate]),
        "configuration": made.configuration(),
        "next": [" ".join(step) for step in next_steps(made)],
    }


def examined_page(found: Sequence[Examination], *, now: datetime) -> RenderableType:
    """Each certificate with what is known of it, and below it what is wrong or odd."""
    parts: list[RenderableType] = []
    for one in found:
        verdict, style = "can be used", "green"
        if not one.usable:
            verdict, style = "cannot be used", "bold red"
        elif one.warnings:
            style = "yellow"
        head = Text.assemble((plain(str(one.file)), "bold"), ": ", (verdict, style))
        parts += [*([Text("")] if parts else []), whole_line(head)]
        parts += map(whole_line, _lines_of(one, now=now))
        parts += [whole_line(f"  error: {plain(fault)}", style="bold red") for fault in one.faults]
        parts += [whole_line(f"  warning: {plain(warning)}", style="yellow") for warning in one.warnings]
    return Group(*parts)


def examined_document(found: Sequence[Examination], *, now: datetime) -> dict[str, Any]:
    """What `certificate show --json` prints."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "usable": all(one.usable for one in found),
        "certificates": [_examination(one, now=now) for one in found],
    }


def list_manifest(found: Sequence[Examination]) -> str:
    """The keyCredentials of those that are for Entra and can be read, as JSON of several lines."""
    own = [one.certificate for one in found if one.use is Use.CREDENTIAL and one.certificate is not None]
    return json.dumps(manifest_of(own), indent=2, ensure_ascii=False)


def _lines_of(one: Examination, *, now: datetime) -> list[str]:
    lines = [_line("named by", f"{', '.join(one.users)} ({one.use})")] if one.users else []
    if one.certificate is None:
        return lines
    certificate = one.certificate
    kind, bits = kind_of(certificate.public_key())
    left = days_left(certificate, now)
    remaining = f"{count(left, 'day')} left" if left >= 0 else "over"
    lines += [
        _line("subject", plain(certificate.subject.rfc4514_string())),
        _line("issuer", _issuer(certificate)),
        _line(
            "valid",
            f"{moment(certificate.not_valid_before_utc)} to {moment(certificate.not_valid_after_utc)},"
            f" {remaining}",
        ),
        _line("key", kind if bits is None else f"{kind}, {bits:,} bits"),
    ]
    if one.use is not Use.AUTHORITY:
        lines.append(_line("private key", _of_key(one.key)))
    return lines + (_thumbprint_lines(certificate) if one.use is Use.CREDENTIAL else [])


def _thumbprint_lines(certificate: x509.Certificate) -> list[str]:
    thumbprints = thumbprints_of(certificate)
    return [
        _line("SHA-1", f"{thumbprints.sha1_hex}  the portal's thumbprint"),
        _line("x5t", thumbprints.x5t),
        _line("SHA-256", thumbprints.sha256_hex),
        _line("x5t#S256", thumbprints.x5t_s256),
    ]


def _line(name: str, value: str) -> str:
    return f"  {name:<{_WIDTH}}  {value}"


def _issuer(certificate: x509.Certificate) -> str:
    if certificate.issuer == certificate.subject:
        return "itself"
    return plain(certificate.issuer.rfc4514_string())


def _of_key(key: KeyFinding | None) -> str:
    if key is None:
        return "none was found; --key FILE names it"
    belongs = {True: "belongs to it", False: "does not belong to it", None: "could not be read"}
    return f"{plain(key.place)}, {belongs[key.belongs]}"


def _certificate_document(certificate: x509.Certificate, *, now: datetime) -> dict[str, Any]:
    kind, bits = kind_of(certificate.public_key())
    thumbprints = thumbprints_of(certificate)
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "starts_at": instant(certificate.not_valid_before_utc),
        "ends_at": instant(certificate.not_valid_after_utc),
        "days_left": days_left(certificate, now),
        "key": {"kind": kind, "bits": bits},
        "thumbprints": {
            "sha1": thumbprints.sha1_hex,
            "sha256": thumbprints.sha256_hex,
            "x5t": thumbprints.x5t,
            "x5t_s256": thumbprints.x5t_s256,
        },
    }


def _examination(one: Examination, *, now: datetime) -> dict[str, Any]:
    key = None
    if one.key is not None:
        key = {
            "place": one.key.place,
            "belongs": one.key.belongs,
            "mode": None if one.key.mode is None else f"{one.key.mode & 0o7777:04o}",
        }
    known = None if one.certificate is None else _certificate_document(one.certificate, now=now)
    return {
        "file": str(one.file),
        "use": str(one.use),
        "named_by": list(one.users),
        "usable": one.usable,
        "faults": list(one.faults),
        "warnings": list(one.warnings),
        "certificate": known,
        "private_key": key,
        "key_credential": (
            key_credential(one.certificate)
            if one.certificate is not None and one.use is Use.CREDENTIAL
            else None
        ),
    }
