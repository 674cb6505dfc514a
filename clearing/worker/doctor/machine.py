"""The machine itself: rights, room, power, and who else is at the disks."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from clearing.worker.config import MachineConfig
from clearing.worker.doctor.findings import Finding, error, ok, warning
from clearing.worker.doctor.host import Host
from clearing.worker.doctor.wanted import INVOICING_CLIENTS
from clearing.worker.durable import locked
from devices.protocol.texts import N_

_NO_ROOM = 100 * 2**20
_LITTLE_ROOM = 2**30
_LOW_BATTERY = 30
_WORKER = re.compile(r"(?:clearing[./]worker(?:/__main__\.py)?|qingka-reader(?:\.exe)?) run\b")


def rights(config: MachineConfig, host: Host) -> Iterator[Finding]:
    """The data folder is ours alone: it holds PINs and what was not delivered yet."""
    folder = config.data_dir
    values = {"folder": folder}
    if not folder.is_dir():
        yield warning(
            "data_dir",
            N_("数据目录 {folder} 还没有"),
            N_("第一次启动服务时会自动建立; 已启动过仍没有, 请检查配置项 data_dir"),
            **values,
        )
        return
    status = folder.stat()
    if host.platform != "win32" and status.st_uid != os.geteuid():
        yield error(
            "data_dir",
            N_("数据目录 {folder} 属于另一个用户"),
            N_("请以运行服务的用户执行本命令, 如 sudo -u qingka-reader qingka-reader doctor"),
            **values,
        )
    elif host.platform != "win32" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield error(
            "data_dir",
            N_("数据目录 {folder} 能被其他用户打开, 里面有 PIN 和未送达的记录"),
            N_("请执行 chmod 700 {folder}"),
            **values,
        )
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield error(
            "data_dir",
            N_("数据目录 {folder} 不能写入"),
            N_("检查目录的所有者和磁盘是否只读"),
            **values,
        )
    else:
        yield ok("data_dir", N_("数据目录 {folder} 只有本用户能打开"), **values)


def room(config: MachineConfig) -> Iterator[Finding]:
    """Without room no PIN can be kept, so nothing may be written to a disk."""
    folder = config.data_dir
    while not folder.exists():
        folder = folder.absolute().parent
    free = shutil.disk_usage(folder).free
    values = {"free": f"{free / 2**30:.1f} GB"}
    remedy = N_("清理磁盘或换大一些的磁盘; 不要删除数据目录里的文件")
    if free < _NO_ROOM:
        yield error("disk_space", N_("磁盘空间不足, 只剩 {free}"), remedy, **values)
    elif free < _LITTLE_ROOM:
        yield warning("disk_space", N_("磁盘空间不多, 只剩 {free}"), remedy, **values)
    else:
        yield ok("disk_space", N_("磁盘剩余空间 {free}"), **values)


def power(host: Host) -> Iterator[Finding]:
    """A machine that goes off in the middle of a write leaves a run to be verified."""
    batteries, plugged = [], False
    for supply in sorted((host.root / "sys/class/power_supply").glob("*")):
        kind, scope = _word(supply / "type"), _word(supply / "scope")
        if kind == "Mains" or kind.startswith("USB"):
            plugged = plugged or _word(supply / "online") == "1"
        elif kind == "Battery" and scope != "Device":  # not the one of a mouse
            batteries.append(supply)
    if not batteries:
        yield ok("power", N_("没有电池, 由电源供电"))
        return
    level = min(int(_word(battery / "capacity") or 100) for battery in batteries)
    running = any(_word(battery / "status") == "Discharging" for battery in batteries)
    if plugged and not running:
        yield ok("power", N_("已接电源, 电池电量 {level}%"), level=level)
    elif level < _LOW_BATTERY:
        yield error(
            "power",
            N_("正在用电池, 只剩 {level}%"),
            N_("马上接上电源; 写盘中断电会留下待核实的办理"),
            level=level,
        )
    else:
        yield warning(
            "power",
            N_("正在用电池, 剩余 {level}%"),
            N_("接上电源, 并关闭自动休眠"),
            level=level,
        )


def copies(config: MachineConfig, host: Host) -> Iterator[Finding]:
    """One worker at a time for the disks of a machine."""
    running = [pid for pid, line in host.processes().items() if _WORKER.search(line)]
    values = {"pids": ", ".join(map(str, sorted(running)))}
    if len(running) > 1:
        yield error(
            "copies",
            N_("有几个工作程序同时在运行: {pids}"),
            N_("只留服务启动的那一个: systemctl restart qingka-reader, 其余的结束掉"),
            **values,
        )
    elif _is_at_work(config.data_dir / "worker.lock"):
        yield ok("copies", N_("工作程序正在运行"))
    else:
        yield warning(
            "copies",
            N_("工作程序没有运行"),
            N_("启动服务: systemctl start qingka-reader"),
        )


def invoicing_client(host: Host) -> Iterator[Finding]:
    """The vendor's client holds disks, and may write them behind our back."""
    for _, line in sorted(host.processes().items()):
        for part, name in INVOICING_CLIENTS:
            if part in line.lower():
                yield warning(
                    "invoicing_client",
                    N_("开票软件正在运行: {line}"),
                    N_("办理期间请退出开票软件, 它会占用税盘"),
                    line=line[:60],
                    name=name,
                )
                return
    yield ok("invoicing_client", N_("没有发现正在运行的开票软件"))


def _is_at_work(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with locked(lock) as free:
            return not free
    except OSError:  # somebody else's: told under the rights
        return False


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
