"""The examination as a whole: every check, and none that stops another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from clearing.worker.config import ConfigError, load
from clearing.worker.doctor import machine, readers, server
from clearing.worker.doctor.findings import Finding, Level, error, ok
from clearing.worker.doctor.host import Host
from clearing.worker.runner import place_of
from devices.protocol.texts import N_

log_ = logging.getLogger(__name__)

Check = Callable[[], Iterator[Finding]]


def examine(path: Path, host: Host | None = None) -> list[Finding]:
    """Examine the machine that ``path`` configures. Changes nothing but a key of its own at the
    broker, which it takes away again."""
    host = host or Host()
    try:
        config = load(path)
    except ConfigError as problem:
        found = [
            error(
                "config",
                N_("配置文件有问题: {why} {at}"),
                N_("还没登记的机器请执行 qingka-reader enroll; 否则按提示改好配置文件"),
                why=problem.text,
                at=problem.at,
            )
        ]
        return found + _made(
            [("power", partial(machine.power, host)), ("invoicing_client", _client(host))]
        )
    found = [ok("config", N_("配置文件 {path}, 只有本用户能读"), path=path)]
    rights = _made([("data_dir", partial(machine.rights, config, host))])
    checks: list[tuple[str, Check]] = [
        ("disk_space", partial(machine.room, config)),
        ("power", partial(machine.power, host)),
        ("copies", partial(machine.copies, config, host)),
        ("invoicing_client", _client(host)),
        ("server", partial(server.examine_server, config)),
        ("broker", partial(server.examine_broker, config)),
    ]
    if all(finding.level != Level.ERROR for finding in rights):
        # Asking readers makes files: never in a folder that is not ours.
        checks.append(("readers", partial(readers.examine_readers, config, host)))
    return found + rights + _made(checks)


def status_of(findings: Sequence[Finding]) -> int:
    """0: all well, 1: something to look at, 2: something is broken."""
    return max((finding.level for finding in findings), default=Level.OK).value


def _client(host: Host) -> Check:
    return partial(machine.invoicing_client, host)


def _made(checks: Sequence[tuple[str, Check]]) -> list[Finding]:
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except Exception as problem:
            log_.debug("doctor: %s: %s", name, place_of(problem))
            found.append(
                error(
                    name,
                    N_("检查没有做完: {name} ({why})"),
                    N_("请把这一行转给技术支持"),
                    name=name,
                    why=type(problem).__name__,
                )
            )
    return found
