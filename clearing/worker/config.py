"""The one configuration file of a reader machine.

Owns its shape and its checks. The file holds the machine's token and broker password, so it must be
readable by its owner alone (0600), and neither value is ever printed: errors name a key, never what
stands behind it.
"""

from __future__ import annotations

import os
import stat
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from devices.protocol.texts import N_

T = TypeVar("T")

NO_BROKER = "none"
DEFAULT_PARALLEL = 8
#: How long a stopping worker lets its runs go on before it ends those that touch no disk.
DEFAULT_STOP_SECONDS = 60.0


class ConfigError(Exception):
    """The file cannot be used; the text is for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """``broker`` is empty where the machine lives from presence answers alone. ``only_slots``
    limits the worker to these slots; empty means all. ``parallel``: runs at a time."""

    server: str
    token: str = field(repr=False)
    data_dir: Path
    name: str = ""
    broker: str = field(default="", repr=False)
    prefix: str = ""
    rack_socket: Path | None = None
    parallel: int = DEFAULT_PARALLEL
    only_slots: tuple[str, ...] = ()
    stop_seconds: float = DEFAULT_STOP_SECONDS


def load(path: Path) -> MachineConfig:
    """Read the file. Raises ConfigError; a file that others can read is refused unread."""
    try:
        with path.open("rb") as file:
            _check_private(os.fstat(file.fileno()), path)
            raw = tomllib.load(file)
    except OSError as error:
        raise ConfigError(N_("无法读取配置文件") + f" {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The decoder's own text may quote the line, and with it a secret.
        raise ConfigError(N_("配置文件不是有效的 TOML") + f": {path}") from None
    return _read(raw)


def _check_private(status: os.stat_result, path: Path) -> None:
    if sys.platform != "win32" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(N_("配置文件含有密钥, 不能让其他用户读取; 请执行") + f" chmod 600 {path}")


def _read(raw: Mapping[str, Any]) -> MachineConfig:
    known = set(MachineConfig.__dataclass_fields__)
    if unknown := sorted(set(raw) - known):
        raise ConfigError(N_("配置文件中有不认识的项") + f": {', '.join(unknown)}")
    broker = _value(raw, "broker", str, NO_BROKER)
    slots = _value(raw, "only_slots", list, [])
    if not all(isinstance(slot, str) for slot in slots):
        raise _wrong("only_slots")
    rack = _value(raw, "rack_socket", str, "")
    config = MachineConfig(
        server=_value(raw, "server", str).rstrip("/"),
        token=_value(raw, "token", str),
        data_dir=Path(_value(raw, "data_dir", str)).expanduser(),
        name=_value(raw, "name", str, ""),
        broker="" if broker == NO_BROKER else broker,
        prefix=_value(raw, "prefix", str, ""),
        rack_socket=Path(rack) if rack else None,
        parallel=_value(raw, "parallel", int, DEFAULT_PARALLEL),
        only_slots=tuple(slots),
        stop_seconds=float(_value(raw, "stop_seconds", int, int(DEFAULT_STOP_SECONDS))),
    )
    if not config.server.startswith(("https://", "http://")):
        raise _wrong("server")
    if not config.token.isascii() or not config.token.strip():
        raise _wrong("token")
    if config.broker and not config.prefix:
        raise _wrong("prefix")  # without it the machine would listen to everybody's queue
    if not 1 <= config.parallel <= 64:
        raise _wrong("parallel")
    return config


def _value(raw: Mapping[str, Any], name: str, wanted: type[T], default: T | None = None) -> T:
    value = raw.get(name, default)
    if type(value) is not wanted or (default is None and not value):
        raise _wrong(name)
    return value


def _wrong(name: str) -> ConfigError:
    return ConfigError(N_("配置项缺失或无效") + f": {name}")
