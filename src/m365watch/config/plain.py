"""A plain configuration, understood without the library that checks all others.

To import that library and to have it make a checker of the schema takes a quarter of a start, 80 ms of CPU.
Here the usual keys are read, written as they usually are: one application by its secret, the services, one
lake or folder or console. Whatever else a file holds is left to the library: mistakes, which it has the words
for, what it warns of, and every other key. Where both understand a file, both make the same of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from m365watch.config.clouds import CLOUDS, is_microsofts, parse_base_url
from m365watch.config.document import Pairs, parse_document, read_text
from m365watch.config.keyrings import is_reference
from m365watch.config.places import folder_of
from m365watch.config.settings import (
    Cloud,
    ConsoleSettings,
    DetectionSettings,
    FilesSettings,
    LakeSettings,
    OutputSettings,
    Secret,
    SecretSettings,
    ServiceSettings,
    Settings,
    TenantSettings,
)
from m365watch.config.usual import BY_DEFAULT, DETECTED_VALUES, IMAGE_VARIABLE, MICROSOFTS_REQUESTS_PER_MINUTE
from m365watch.config.values import (
    VARIABLE,
    is_guid,
    parse_guid,
    parse_instant,
    parse_label,
    parse_name,
    parse_path,
    parse_tag_template,
    parse_tenant_id,
)
from m365watch.model import Service, TenantId

_TEXT_CHARACTERS_MAX = 4_096
_LABEL_BITS_MAX = 64
_SIZE_MAX = 1_000_000_000
_PERIOD_S_MAX = 86_400
_LOOKBACK_S = 7_200.0
_FILES_BYTES = 256_000_000
_FILES_S = 3_600.0
_COMPRESSIONS = ("none", "gzip", "zstd")
_OTHERS_CAN_READ = 0o044
_WHOLE = re.compile(r"[1-9][0-9]{0,9}")


class NotPlain(ValueError):
    """The library has to read this."""


def read_plainly(path: Path, *, environment: Mapping[str, str], for_reading: bool = False) -> Settings | None:
    """What `load_settings` makes of the file, given the same; None where that has to read it."""
    path = path.absolute()
    try:
        document = parse_document(read_text(path), suffix=path.suffix.lower())
        return _Plain(path, environment, reads=not for_reading).settings(document)
    except (ValueError, OSError):
        # Of whatever is written in another way; also of what cannot be read at all.
        return None


class _Plain:
    """The reading of one file."""

    def __init__(self, path: Path, environment: Mapping[str, str], *, reads: bool) -> None:
        self._path = path
        self._environment = environment
        self._reads = reads
        """Whether secrets are taken from the environment."""

    def settings(self, document: object) -> Settings:
        """The settings of the document. Raises: ValueError: it is not plain."""
        keys = _keys(document, "inputs", "outputs", "globals", "detections")
        overall = _keys(keys.get("globals", _NOTHING), "id", "name", "debug", "persistence")
        state = self._state(overall.get("persistence", _NOTHING))
        output = self._output(keys.get("outputs", _NOTHING))
        if isinstance(output, LakeSettings | FilesSettings) and state.is_relative_to(output.directory):
            raise NotPlain
        detections = _keys(keys.get("detections", _NOTHING), "enabled")
        return Settings(
            path=self._path,
            collector_name=parse_name(_text(overall.get("name", "m365watch"))),
            state_directory=state,
            debug=_switch(overall.get("debug", False)),
            tenants=self._tenants(keys.get("inputs")),
            outputs=(output,),
            warnings=(),
            job_id=_label(overall["id"]) if "id" in overall else None,
            collector_image=self._environment.get(IMAGE_VARIABLE) or None,
            detections=DetectionSettings(
                enabled=_switch(detections.get("enabled", isinstance(output, LakeSettings)))
            ),
        )

    def _state(self, value: object) -> Path:
        keys = _keys(value, "type", "config")
        if keys.get("type", "filesystem") not in ("filesystem", "json"):
            raise NotPlain
        config = _keys(keys.get("config", _NOTHING), "directory_name")
        return self._folder(config.get("directory_name", "state"))

    def _folder(self, value: object) -> Path:
        return Path(os.path.normpath(folder_of(self._path) / parse_path(_text(value))))

    def _output(self, value: object) -> OutputSettings:
        """The one output; a lake where there is none."""
        if isinstance(value, Pairs) and not value:
            return LakeSettings("lake", self._folder("lake"))
        [(name, section)] = _named(value)
        if name == "detections":
            raise NotPlain
        keys = _keys(section, "type", "enabled", "config")
        _refuse_off(keys)
        config = keys.get("config", _NOTHING)
        match keys.get("type"):
            case "lake":
                options = _keys(config, "directory")
                return LakeSettings(name, self._folder(options.get("directory", "lake")))
            case "files":
                return self._files(name, _keys(config, "directory", "compression"))
            case "console" | "stdout":
                _keys(config)
                return ConsoleSettings(name)
        raise NotPlain

    def _files(self, name: str, options: Mapping[str, object]) -> FilesSettings:
        compression = _text(options.get("compression", "none"))
        if compression not in _COMPRESSIONS:
            raise NotPlain
        directory = self._folder(options.get("directory", "records"))
        return FilesSettings(name, directory, compression, rotate_bytes=_FILES_BYTES, rotate_s=_FILES_S)

    def _tenants(self, value: object) -> tuple[TenantSettings, ...]:
        tenants = [tenant for name, section in _named(value) for tenant in self._input(name, section)]
        # Two inputs that share a tenant, or an id, are for the library to judge.
        if not tenants or len({one.tenant_id for one in tenants}) < len(tenants):
            raise NotPlain
        if len({one.input_id for one in tenants}) < len({one.input_name for one in tenants}):
            raise NotPlain
        return tuple(tenants)

    def _input(self, name: str, section: object) -> Iterator[TenantSettings]:
        keys = _keys(section, "type", "id", "enabled", "credentials", "cloud", "services")
        _refuse_off(keys)
        if keys.get("type", name) != "office365":
            raise NotPlain
        credentials = _keys(keys.get("credentials"), "tenant_id", "client_id", "client_secret")
        proof = SecretSettings(self._secret(credentials.get("client_secret")))
        client_id = parse_guid(_text(credentials.get("client_id")))
        cloud = _cloud(keys.get("cloud", "worldwide"))
        services = tuple(_services(keys.get("services", _NOTHING)))
        for tenant_id in _tenant_ids(credentials.get("tenant_id")):
            yield TenantSettings(
                input_name=name,
                input_id=_label(keys["id"]) if "id" in keys else name,
                tenant_id=TenantId(tenant_id),
                client_id=client_id,
                credentials=(proof,),
                cloud=cloud,
                publisher_id=tenant_id,
                services=services,
                requests_per_minute=MICROSOFTS_REQUESTS_PER_MINUTE if is_microsofts(cloud) else None,
                lookback_s=_LOOKBACK_S,
            )

    def _secret(self, value: object) -> Secret:
        """The client secret, from the environment where it is written so."""
        if not isinstance(value, str):
            raise NotPlain
        if "${" in value:
            return Secret(self._filled(value) if self._reads else _secret_text(value))
        if self._path.stat().st_mode & _OTHERS_CAN_READ:
            raise NotPlain
        return Secret(_secret_text(value))

    def _filled(self, text: str) -> str:
        missing = [name for name in VARIABLE.findall(text) if not self._environment.get(name)]
        if missing or "${" in VARIABLE.sub("", text):
            raise NotPlain
        _secret_text(text)
        return _secret_text(VARIABLE.sub(lambda match: self._environment[match[1]], text))


_NOTHING = Pairs()


def _keys(value: object, *known: str) -> dict[str, object]:
    """What the object says; each of its keys is among `known`, is there once, and has a value."""
    keys = _object(value)
    if not keys.keys() <= set(known) or None in keys.values():
        raise NotPlain
    return keys


def _object(value: object) -> dict[str, object]:
    """The object's keys, each a text and there once, and their values."""
    if not isinstance(value, Pairs) or not all(isinstance(key, str) for key, _ in value):
        raise NotPlain
    keys = dict(value)
    if len(keys) < len(value):
        raise NotPlain
    return keys


def _named(value: object) -> list[tuple[str, object]]:
    """What stands in the object, each under a name of the user's own; something does."""
    if not (named := _object(value)):
        raise NotPlain
    return [(parse_name(_text(name)), section) for name, section in named.items()]


def _refuse_off(keys: Mapping[str, object]) -> None:
    if keys.get("enabled", True) is not True:
        raise NotPlain


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise NotPlain
    return value


def _text(value: object) -> str:
    """A text without anything that a text may hold elsewhere: variables, placeholders, odd characters."""
    if not isinstance(value, str) or not 0 < len(value) <= _TEXT_CHARACTERS_MAX or not value.isprintable():
        raise NotPlain
    if "${" in value or "<" in value or _is_dots(value):
        raise NotPlain
    return value


def _secret_text(text: str) -> str:
    """The same of a secret, which may have any of these characters inside."""
    if not 0 < len(text) <= _TEXT_CHARACTERS_MAX or not text.isprintable():
        raise NotPlain
    if text.strip().startswith("<") or _is_dots(text) or is_reference(text) or is_guid(text):
        raise NotPlain
    return text


def _is_dots(text: str) -> bool:
    return text.strip() in {"...", "\u2026"}


def _label(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > _LABEL_BITS_MAX:
        raise NotPlain
    return _text(parse_label(value))


def _whole(value: object, most: int) -> int:
    """A number, in quotes too, as Devo's template has them."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise NotPlain
    return value


def _tenant_ids(value: object) -> list[str]:
    if isinstance(value, list) and value and not isinstance(value, Pairs):
        return [parse_tenant_id(_text(one)) for one in value]
    return [parse_tenant_id(_text(value))]


def _cloud(value: object) -> Cloud:
    if isinstance(value, str):
        if value not in CLOUDS:
            raise NotPlain
        return CLOUDS[value]
    keys = _keys(value, "login_url", "management_url", "audience", "graph_url")
    management_url = parse_base_url(_text(keys.get("management_url")))
    return Cloud(
        name="custom",
        login_url=parse_base_url(_text(keys.get("login_url"))),
        management_url=management_url,
        audience=_text(keys["audience"]) if "audience" in keys else management_url,
        graph_url=parse_base_url(_text(keys["graph_url"])) if "graph_url" in keys else "",
    )


def _services(value: object) -> Iterator[ServiceSettings]:
    """Those that are named and not switched off, or else the usual ones, in the order of `Service`."""
    named = _object(value)
    if not named.keys() <= {*BY_DEFAULT, Service.URI_RETRY}:
        raise NotPlain
    if named.get(Service.URI_RETRY) is not None:
        _keys(named[Service.URI_RETRY])
    if named.keys() == {Service.URI_RETRY}:
        raise NotPlain
    found = [_service(one, named.get(one)) for one in BY_DEFAULT if one in named or not named]
    on = [one for one in found if one is not None]
    if not on:
        raise NotPlain
    yield from on


def _service(service: Service, value: object) -> ServiceSettings | None:
    """None for one that is switched off: what else stands there is not read."""
    if isinstance(value, Pairs) and any(key == "enabled" and child is False for key, child in value):
        return None
    keys = _keys(
        _NOTHING if value is None else value,
        "enabled",
        "start_time_in_utc",
        "request_period_in_seconds",
        "override_tag",
        "override_bloom_filter_size",
        "override_bloom_filter_buffer_size",
    )
    _refuse_off(keys)
    return ServiceSettings(
        service=service,
        start_at=_start(keys.get("start_time_in_utc")),
        override_tag=parse_tag_template(_text(keys["override_tag"])) if "override_tag" in keys else None,
        request_period_s=float(_whole(keys.get("request_period_in_seconds", 300), _PERIOD_S_MAX)),
        bloom_filter_size=_size(keys.get("override_bloom_filter_size")),
        bloom_filter_buffer_size=_size(keys.get("override_bloom_filter_buffer_size")),
        masks=DETECTED_VALUES if service is Service.DLP else (),
    )


def _start(value: object) -> datetime | None:
    return None if value is None else parse_instant(_text(value))


def _size(value: object) -> int | None:
    return None if value is None else _whole(value, _SIZE_MAX)
