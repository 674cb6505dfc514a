"""The one configuration file of a reader machine.

Owns its shape and its checks. The file holds the machine's token and broker password, so it must be
readable by its owner alone (0600), and neither value is ever printed: errors name a key, never what
stands behind it.
"""

from __future__ import annotations

import ipaddress
import os
import stat
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from clearing.worker.hardware import Component, Group, Hardware
from clearing.worker.pcsc_readers import PcscSlots
from devices.protocol.texts import N_

T = TypeVar("T")

NO_BROKER = "none"
RACK, PCSC = "rack", "pcsc"
DEFAULT_PARALLEL = 8
#: How long a stopping worker lets its runs go on before it ends those that touch no disk.
DEFAULT_STOP_SECONDS = 60.0
#: How long the ladder waits for neighbours that are being written before it gives up.
DEFAULT_LADDER_SECONDS = 120.0
#: How long a command of the ladder may take: new intents are held meanwhile.
LADDER_COMMAND_SECONDS = 60.0


class ConfigError(Exception):
    """The file cannot be used. ``text`` (to be translated) is for the person who wrote it; ``at``
    names the key or file."""

    def __init__(self, text: str, at: str = "") -> None:
        super().__init__(f"{text}: {at}" if at else text)
        self.text = text
        self.at = at


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """``broker`` is empty where the machine lives from presence answers alone. ``only_slots``
    limits the worker to these slots; empty means all. ``parallel``: runs at a time.

    ``restart_service`` and ``power_cycle`` (with ``{slot}``) are the ladder's commands; the latter
    is taken to touch other disks, too, unless ``power_cycle_alone``.

    ``plain_http``: server and broker may be spoken to in the clear although they are elsewhere.

    ``readers``: ``rack`` (模拟) or ``pcsc``; empty is the rack where there is one, and PC/SC where
    there is neither a rack nor a component. ``pcsc_…``: see :class:`PcscSlots`."""

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
    restart_service: tuple[str, ...] = ()
    power_cycle: tuple[str, ...] = ()
    power_cycle_alone: bool = False
    ladder_seconds: float = DEFAULT_LADDER_SECONDS
    components: tuple[Component, ...] = ()
    groups: tuple[Group, ...] = ()
    readers: str = ""
    pcsc_sockets: tuple[str, ...] = ()
    pcsc_names: Mapping[str, str] = field(default_factory=dict)
    pcsc_atrs: tuple[str, ...] = ()
    plain_http: bool = False

    @property
    def hardware(self) -> Hardware:
        if not self.uses_pcsc:
            return Hardware(self.rack_socket, self.components, self.groups)
        sockets = tuple(Path(path) for path in self.pcsc_sockets)
        pcsc = PcscSlots(sockets, self.pcsc_names, self.pcsc_atrs)
        return Hardware(None, self.components, self.groups, pcsc)

    @property
    def uses_pcsc(self) -> bool:
        if self.readers:
            return self.readers == PCSC
        return self.rack_socket is None and not self.components

    @property
    def hold_seconds(self) -> float:
        """How long an intent may have to wait while the readers are seen to."""
        return self.ladder_seconds + LADDER_COMMAND_SECONDS

    def takes(self, slot: str) -> bool:
        return not self.only_slots or slot in self.only_slots


def load(path: Path) -> MachineConfig:
    """Read the file. Raises ConfigError; a file that others can read is refused unread."""
    return read(raw_of(path))


def raw_of(path: Path) -> dict[str, Any]:
    """What stands in the file, unchecked. Raises ConfigError as :func:`load`."""
    try:
        with path.open("rb") as file:
            _check_private(os.fstat(file.fileno()), path)
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(N_("无法读取配置文件"), f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The decoder's own text may quote the line, and with it a secret.
        raise ConfigError(N_("配置文件不是有效的 TOML"), str(path)) from None


def _check_private(status: os.stat_result, path: Path) -> None:
    if sys.platform != "win32" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(N_("配置文件含有密钥, 不能让其他用户读取; 请执行"), f"chmod 600 {path}")


def read(raw: Mapping[str, Any]) -> MachineConfig:
    """Check what stands in a file. Raises ConfigError."""
    _check_keys(raw, MachineConfig, "")
    broker = _value(raw, "broker", str, NO_BROKER)
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
        only_slots=_words(raw, "only_slots", ()),
        stop_seconds=_seconds(raw, "stop_seconds", DEFAULT_STOP_SECONDS),
        restart_service=_words(raw, "restart_service", ()),
        power_cycle=_words(raw, "power_cycle", ()),
        power_cycle_alone=_value(raw, "power_cycle_alone", bool, False),
        ladder_seconds=_seconds(raw, "ladder_seconds", DEFAULT_LADDER_SECONDS),
        components=tuple(_component(each) for each in _tables(raw, "components")),
        groups=tuple(_group(each) for each in _tables(raw, "groups")),
        readers=_value(raw, "readers", str, ""),
        pcsc_sockets=_words(raw, "pcsc_sockets", ()),
        pcsc_names=_names(raw, "pcsc_names"),
        pcsc_atrs=_words(raw, "pcsc_atrs", ()),
        plain_http=_value(raw, "plain_http", bool, False),
    )
    if not config.server.startswith(("https://", "http://")):
        raise _wrong("server")
    for name, address in (("server", config.server), ("broker", config.broker)):
        if in_the_clear(address) and not config.plain_http:
            raise ConfigError(N_("不加密的地址只能在本机; 请用 https 或 rediss"), name)
    if "ssl_" in urlsplit(config.broker).query:  # redis-py would take ssl_cert_reqs=none
        raise _wrong("broker")
    if not config.token.isascii() or not config.token.strip():
        raise _wrong("token")
    if config.broker and not config.prefix:
        raise _wrong("prefix")  # without it the machine would listen to everybody's queue
    if not 1 <= config.parallel <= 64:
        raise _wrong("parallel")
    _check_readers(config)
    _check_slots(config)
    return config


def in_the_clear(address: str) -> bool:
    """Whether what is said to ``address`` can be read on the way: plain, and not on this machine.
    TLS checks the certificate, its name included; there is no way to switch that off."""
    parts = urlsplit(address)
    return parts.scheme in {"http", "redis"} and not is_here(parts.hostname or "")


def is_here(host: str) -> bool:
    """Whether an address is on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(raw: Mapping[str, Any], name: str) -> Mapping[str, str]:
    """Slot → reader; no reader has two names."""
    names: dict[str, Any] = _value(raw, name, dict, {})
    good = all(isinstance(reader, str) and reader for reader in names.values())
    if not good or len(set(names.values())) != len(names):
        raise _wrong(name)
    return names


def _check_readers(config: MachineConfig) -> None:
    if config.readers not in ("", RACK, PCSC) or (
        config.readers == RACK and config.rack_socket is None
    ):
        raise _wrong("readers")
    try:
        [bytes.fromhex(atr) for atr in config.pcsc_atrs]
    except ValueError:
        raise _wrong("pcsc_atrs") from None


def _component(raw: Mapping[str, Any]) -> Component:
    _check_keys(raw, Component, "components.")
    component = Component(
        slot=_value(raw, "slot", str),
        kind=_value(raw, "kind", str),
        address=_value(raw, "address", str),
        device_no=_value(raw, "device_no", str, ""),
        operate_net=_value(raw, "operate_net", bool, False),
    )
    if not component.address.startswith("http://"):
        raise _wrong("components.address")
    return component


def _group(raw: Mapping[str, Any]) -> Group:
    _check_keys(raw, Group, "groups.")
    group = Group(
        name=_value(raw, "name", str),
        slots=_words(raw, "slots"),
        activate=_words(raw, "activate"),
        reader=_value(raw, "reader", str, ""),
    )
    if not any("{slot}" in word for word in group.activate):
        raise _wrong("groups.activate")
    return group


def _check_slots(config: MachineConfig) -> None:
    grouped = [slot for group in config.groups for slot in group.slots]
    alone = [component.slot for component in config.components]
    names = [group.name for group in config.groups]
    if len({*grouped, *alone}) != len(grouped) + len(alone) or len(set(names)) != len(names):
        raise _wrong("groups")


def _check_keys(raw: Mapping[str, Any], shape: Any, where: str) -> None:
    if unknown := sorted(set(raw) - set(shape.__dataclass_fields__)):
        raise ConfigError(N_("配置文件中有不认识的项"), ", ".join(where + key for key in unknown))


def _value(raw: Mapping[str, Any], name: str, wanted: type[T], default: T | None = None) -> T:
    value = raw.get(name, default)
    if type(value) is not wanted or (default is None and not value):
        raise _wrong(name)
    return value


def _seconds(raw: Mapping[str, Any], name: str, default: float) -> float:
    value = raw.get(name, default)
    if type(value) not in {int, float} or not value >= 0:
        raise _wrong(name)
    return float(value)


def _words(
    raw: Mapping[str, Any], name: str, default: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    words: list[Any] = _value(raw, name, list, None if default is None else list(default))
    if not all(isinstance(word, str) and bool(word) for word in words):
        raise _wrong(name)
    return tuple(words)


def _tables(raw: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    tables: list[Any] = _value(raw, name, list, [])
    if not all(isinstance(table, dict) for table in tables):
        raise _wrong(name)
    return tables


def _wrong(name: str) -> ConfigError:
    return ConfigError(N_("配置项缺失或无效"), name)
