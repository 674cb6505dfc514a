"""The readers: seen, enough of them, answering, and with versions that work."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from clearing.worker.config import MachineConfig
from clearing.worker.doctor.findings import Finding, error, ok, warning
from clearing.worker.doctor.host import Host
from clearing.worker.doctor.wanted import (
    CELERY,
    CRYPTOGRAPHY,
    HTTPX,
    LIBCCID,
    LXML,
    OLD_READER_LIMIT,
    PCSCD,
    PCSCD_WITHOUT_LIMIT,
    PYSCARD,
    Version,
    WantedVersion,
    parsed,
)
from clearing.worker.hardware import Component
from clearing.worker.places import Places
from clearing.worker.prober import probe_slots
from devices.protocol.catalogue import CATALOGUE
from devices.protocol.failures import Code, Failure
from devices.protocol.texts import N_
from devices.simulator.rack_client import list_slots

_PCSC_LOOK = (sys.executable, "-m", "devices.drivers.pcsc_watch", "--once")


def examine_readers(config: MachineConfig, host: Host) -> Iterator[Finding]:
    if config.hardware.rack_socket is not None:
        yield from _rack(config)
    for component in config.components:
        yield _component(config, component)
    if config.uses_pcsc:
        yield from _pcsc(config, host)
    yield from _packages(config)


# --- simulated, and behind components ------------------------------------------------------------


def _rack(config: MachineConfig) -> Iterator[Finding]:
    assert config.rack_socket is not None  # noqa: S101 - asked before
    values = {"socket": config.rack_socket}
    try:
        slots = list_slots(config.rack_socket)
    except Failure:
        yield error(
            "rack",
            N_("模拟盘架 {socket} 没有应答"),
            N_("启动模拟盘架, 或从配置里去掉 rack_socket"),
            **values,
        )
        return
    names = {view.slot for view in slots}
    taken = sum(1 for view in slots if view.device_no)
    yield ok("rack", N_("模拟盘架: {count} 个盘位, {taken} 只盘"), count=len(slots), taken=taken)
    known = names | {slot for group in config.groups for slot in group.slots}
    if missing := sorted(set(config.only_slots) - known - set(config.hardware.blind_slots())):
        yield warning(
            "only_slots",
            N_("only_slots 里的盘位不存在: {slots}"),
            N_("核对配置里的盘位名称"),
            slots=", ".join(missing),
        )


def _component(config: MachineConfig, component: Component) -> Finding:
    """Ask it for the disk's number, which takes no password. The component's own version is told
    only after one, so it is not compared here."""
    values = {"slot": component.slot, "address": component.address}
    if component.slot in config.hardware.hidden_readers():
        # Which disk is active there is the group's business.
        return ok("component", N_("组件 {address} 属于一组盘位, 由服务轮流查询"), **values)
    found = probe_slots(config, [component.slot], Places(config.data_dir)).get(component.slot)
    if found is None:
        return ok("component", N_("组件 {address} 正在办理"), **values)
    if found["problem"] == Code.NO_ANSWER:
        return error(
            "component",
            N_("盘位 {slot} 的组件 {address} 没有应答"),
            N_("确认组件程序已启动、地址和端口正确、防火墙放行"),
            **values,
        )
    if found["problem"]:
        title = CATALOGUE[Code(found["problem"])].title
        return warning(
            "component",
            N_("盘位 {slot} 的组件 {address} 应答, 但读不到盘 ({problem})"),
            N_("检查税盘是否插好, 以及配置里的设备编号"),
            **values,
            problem=title,
        )
    return ok(
        "component",
        N_("盘位 {slot}: 组件应答, 设备编号 {device_no} (组件版本须口令才能读出, 未核对)"),
        **values,
        device_no=found["device_no"],
    )


# --- PC/SC ---------------------------------------------------------------------------------------


def _pcsc(config: MachineConfig, host: Host) -> Iterator[Finding]:
    said = host.output(["pcscd", "--version"])
    if said is None and host.platform != "win32":
        yield error(
            "pcscd",
            N_("没有安装读卡服务 pcscd"),
            N_("安装: apt install pcscd libccid"),
        )
        return
    daemon = parsed(said or "")
    if daemon:
        yield _compared(PCSCD, daemon)
    yield _installed(PYSCARD, N_("安装: pip install 'qingka[reader]'"))
    ccid = host.output(["dpkg-query", "-W", "-f=${Version}", "libccid"])
    if ccid is not None and parsed(ccid):
        yield _compared(LIBCCID, parsed(ccid))
    for socket in config.pcsc_sockets or ("",):
        yield from _readers(host, daemon, socket)


def _readers(host: Host, daemon: Version, socket: str) -> Iterator[Finding]:
    """What one daemon has; ``socket`` is empty for the system's own."""
    view = _look(host, socket)
    if view is None:
        yield error(
            "readers",
            N_("读卡服务没有应答"),
            N_("启动: systemctl start pcscd.socket; 无权使用时安装随附的 polkit 规则"),
        )
        return
    if not view["session"]:
        yield error(
            "readers",
            N_("读卡服务用不了: {problem}"),
            N_("启动: systemctl start pcscd.socket; 无权使用时安装随附的 polkit 规则"),
            problem=view.get("problem", ""),
        )
        return
    count = len(view["readers"])
    present = sum(1 for reader in view["readers"] if reader["present"])
    if count:
        yield ok(
            "readers", N_("读卡器 {count} 个, 插着 {present} 张"), count=count, present=present
        )
    else:
        yield error(
            "readers",
            N_("一个读卡器也没有看到"),
            N_("检查 USB 线和集线器供电; 执行 lsusb 看系统是否认到读卡器"),
        )
    if daemon and daemon < PCSCD_WITHOUT_LIMIT:
        yield warning(
            "reader_limit",
            N_("pcscd {version} 最多认 {limit} 个读卡器, 再多的会不声不响地丢掉 (现有 {count} 个)"),
            N_("超过 {limit} 个读卡器时, 升级到 pcscd 2.5 以上, 或分到几台读盘机"),
            version=".".join(map(str, daemon)),
            limit=OLD_READER_LIMIT,
            count=count,
        )


def _look(host: Host, socket: str) -> dict[str, Any] | None:
    """One look, from a process that can be ended: a daemon that is stuck answers nobody."""
    where = ("--socket", socket) if socket else ()
    for line in (host.output([*_PCSC_LOOK, *where]) or "").splitlines():
        try:
            view = json.loads(line)
        except ValueError:
            continue
        if isinstance(view, dict) and "session" in view and "readers" in view:
            return view
    return None


# --- versions ------------------------------------------------------------------------------------


def _packages(config: MachineConfig) -> Iterator[Finding]:
    wanted = [HTTPX, CRYPTOGRAPHY, LXML, *([CELERY] if config.broker else [])]
    for each in wanted:
        finding = _installed(each, N_("重新安装本程序: pip install --upgrade qingka"))
        if finding.remedy:
            yield finding
            return
    yield ok("packages", N_("程序所需的组件齐全"))


def _installed(wanted: WantedVersion, remedy: str) -> Finding:
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return error(wanted.name, N_("没有安装 {name}"), remedy, name=wanted.name)
    return _compared(wanted, parsed(found))


def _compared(wanted: WantedVersion, found: Version) -> Finding:
    values = {
        "name": wanted.name,
        "version": ".".join(map(str, found)),
        "needed": ".".join(map(str, wanted.needed)),
        "wanted": ".".join(map(str, wanted.wanted)),
        "why": wanted.why,
    }
    if found < wanted.needed:
        return error(
            wanted.name,
            N_("{name} {version} 太旧, 至少要 {needed}"),
            N_("升级 {name} 到 {wanted} 或更新"),
            **values,
        )
    if found < wanted.wanted:
        return warning(
            wanted.name,
            N_("{name} {version} 可用, 建议 {wanted}"),
            N_("有空时升级 {name}"),
            **values,
        )
    return ok(wanted.name, N_("{name} {version}"), **values)
