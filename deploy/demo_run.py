"""The demo: an agency's clients are imported, reported and cleared on simulated disks (模拟).

``deploy/demo [--clients FILE.xlsx] [--once] [--json FILE] [--reset] [--port N] [--pcsc]``.
Everything it starts lies in one run folder (``.run/demo``, or QINGKA_DEMO_DIR) and ends with it; a
second start goes on with what is there. Owns the order of the show, nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from clearing.bureau.standin import read_state
from deploy import readers
from deploy.demonstration.child import ROOT
from deploy.demonstration.expected import Expected
from deploy.demonstration.people import accounts_of
from deploy.demonstration.places import Places
from deploy.demonstration.play import Play
from deploy.demonstration.press import PressError, press
from deploy.demonstration.scenario import MACHINES, build, clients, on_cards
from deploy.demonstration.sheet import write_sheet
from deploy.embedded import EmbeddedError
from deploy.stack import HOST, Stack, StackError
from devices.simulator.world import World

PORT = 8765
LIMITS_SCALE = 0.2  # a lease lasts 24 s, a call 12 s

_LOOK_SECONDS = 0.25
_PRESENCE_SECONDS = 60.0
_SECONDS_PER_DISK = 10.0
_LEAST_SECONDS = 240.0
_KEPT = frozenset({"lock", "tail.lock"})

OK, WRONG, FAILED, INTERRUPTED = 0, 1, 2, 130


class DemoError(RuntimeError):
    """The demo cannot go on; the text is for whoever started it."""


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    console = Console(highlight=False)
    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) != signal.SIG_IGN:  # nohup stays nohup
            signal.signal(name, _interrupt)
    root = Path(os.environ.get("QINGKA_DEMO_DIR") or ROOT / ".run" / "demo").absolute()
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        if options.pcsc and (lacking := readers.missing()):
            raise DemoError(
                f"--pcsc 需要, 但这里没有 (needed for --pcsc, and not here): {', '.join(lacking)}"
            )
        with web_port(options.port) as port:
            stack = Stack(
                root,
                machines=MACHINES,
                limits_scale=LIMITS_SCALE,
                port=port,
                pcsc=options.pcsc,
            )
            with _taken(stack):
                return Demo(stack, console, options).run()
    except KeyboardInterrupt:
        console.print("已结束 (ended).")
        return INTERRUPTED if options.once else OK
    except (DemoError, EmbeddedError, StackError, PressError) as error:
        console.print(str(error), style="red", markup=False)
        return FAILED


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy/demo", description="清卡台演示 (全部模拟)")
    parser.add_argument(
        "--clients", type=Path, metavar="FILE", help="自己的客户表 .xlsx (default: 48 fictional)"
    )
    parser.add_argument("--once", action="store_true", help="批次办完即结束 (end after the batch)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="把结果写入 FILE (the result)")
    parser.add_argument("--reset", action="store_true", help="清空演示数据, 重新开始 (begin anew)")
    parser.add_argument("--port", type=int, default=0, help=f"网页端口 (default: {PORT} if free)")
    parser.add_argument(
        "--pcsc",
        action="store_true",
        help="税盘插在真实 pcscd 的虚拟读卡器里 (disks at real pcscd)",
    )
    return parser.parse_args(arguments)


def _taken(stack: Stack) -> Stack:
    try:
        stack.take()
    except EmbeddedError as error:
        raise DemoError(
            f"演示目录 {stack.places.root} 正由另一个演示使用, 请先结束它, "
            f"或用 QINGKA_DEMO_DIR 另指一个目录 (another demo runs there)\n{error}"
        ) from None
    return stack


@contextlib.contextmanager
def web_port(wanted: int) -> Iterator[int]:
    """The port wished for; else our usual one where neither a demo nor anybody else has it; else 0.

    Between looking at a port and using it another demo could take it, hence the lock."""
    name = Path(tempfile.gettempdir()) / f"qingka-{os.geteuid()}-port-{PORT}"
    with contextlib.ExitStack() as held:
        usual = False
        with contextlib.suppress(OSError):
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            held.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((HOST, PORT))
            usual = True
        yield wanted or (PORT if usual else 0)


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


class Demo:
    """One start of the demo, from the run folder to the verdict."""

    def __init__(self, stack: Stack, console: Console, options: argparse.Namespace) -> None:
        self._stack = stack
        self._places: Places = stack.places
        self._console = console
        self._options = options
        self._restarted = False

    def run(self) -> int:
        if self._options.reset:
            self._reset()
        play = Play.of(self._places.root / "play.json", _now())
        self._stack.clock_offset = play.offset
        self._lay_out(play)
        self._say(f"模拟时间 {play.time(_now()):%Y年%m月%d日 %H:%M} (simulated time). 正在启动 …")
        began = time.monotonic()
        self._stack.start()
        self._say(f"启动用时 {time.monotonic() - began:.1f} 秒 (started). {self._stack.url}")
        if self._options.clients:
            self._console.print((self._places.logs / "prepare-0.log").read_text(encoding="utf-8"))
        expected = Expected.load(self._places.expected)
        self._look_into_tables()
        if play.is_over(_now()):
            self._say(
                f"[yellow]演示的征期 {play.window} 已过, 请加 --reset 重新开始 "
                "(its month is over: begin anew with --reset).[/yellow]"
            )
            return FAILED if self._options.once else self._stay()
        status = self._work(expected)
        return status if self._options.once else self._stay()

    # -- before ---------------------------------------------------------------------------------

    def _reset(self) -> None:
        """Empty the run folder, if it is one of ours."""
        root = self._places.root
        there = [path for path in root.iterdir() if path.name not in _KEPT]
        if there and not (root / "play.json").exists():
            raise DemoError(f"{root} 不是演示目录, 未删除任何内容 (not a demo's folder)")
        for path in there:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _lay_out(self, play: Play) -> None:
        """Sheet, world and expectation of a first start; of a later one, they are there."""
        own, sheet = self._options.clients, self._places.root / "sample.xlsx"
        begun = self._places.expected.exists()
        if own is not None and begun:
            raise DemoError(
                "演示目录里已有数据; 换客户表请加 --reset (for another list, begin anew: --reset)"
            )
        if own is not None and not own.is_file():
            raise DemoError(f"找不到文件 (no such file): {own}")
        if own is None and not begun:
            who = on_cards(clients()) if self._options.pcsc else clients()
            world, expected = build(play.window, who)
            write_sheet(who, sheet)
            expected.save(self._places.expected)
            world.save(self._places.world)  # the last one: with it, everything is there
        setup = ["-m", "deploy.demonstration.setup", "--root", str(self._places.root)]
        setup += ["--server", self._stack.url, "--bureau", self._stack.bureau_url]
        setup += ["--clients", str(own.absolute() if own else sheet)]
        self._stack.prepare = ((*setup, *(["--own"] if own else [])),)

    def _look_into_tables(self) -> None:
        """Make Django usable in this process; what needs its models is imported afterwards."""
        os.environ.update(self._stack.environment() | {"QINGKA_LOG_LEVEL": "WARNING"})
        import django

        django.setup()

    # -- the batch ------------------------------------------------------------------------------

    def _work(self, expected: Expected) -> int:
        """Press the button if nobody has, watch until all is settled, and judge."""
        from deploy.demonstration import judge, show, tables

        fresh = not tables.started()
        if fresh:
            self._await_disks(expected)
            began = press(self._stack.url, "owner", accounts_of(self._places).password)
            self._say(f"已按下 一键抄报清卡 (pressed): {began}")
        else:
            self._say("接着上次的数据继续 (going on with the data of an earlier start)")
        in_time = self._watch()
        claims = tables.read_claims()
        offset = self._stack.clock_offset
        sights = judge.look(self._places.disks, expected, clock_offset=offset)
        show.outcomes(self._console, claims, len(expected.diskless))
        if fresh:
            show.times(self._console, tables.spent(), expected.companies, len(expected.disks))
        if self._options.json:
            self._write_result(judge.result(expected, sights, claims))
        if not fresh and not self._options.once:
            return OK  # a person may have changed its course since
        bureau = read_state(self._places.bureau)
        disturbed = not fresh or self._restarted
        violations = judge.judge(expected, sights, bureau, claims, disturbed=disturbed)
        if not in_time:
            violations.insert(0, "限定时间内没有办完 (not settled in time)")
        show.verdict(self._console, violations, len(expected.disks))
        return WRONG if violations else OK

    def _await_disks(self, expected: Expected) -> None:
        """Until the machines have told who is plugged in; a late disk is no reason to stop."""
        from deploy.demonstration import tables

        plugged = len(self._plugged())
        until = time.monotonic() + _PRESENCE_SECONDS
        while (seen := tables.disks_present()) < plugged and time.monotonic() < until:
            self._tend()
            time.sleep(_LOOK_SECONDS)
        if plugged and not seen:
            raise DemoError(
                f"读盘机没有报告任何税盘 (no disk was reported), 日志见 {self._places.logs}"
            )
        self._say(f"读盘机报告在位税盘 {seen} 个, 共 {len(expected.disks)} 盘 (plugged in)")

    def _plugged(self) -> frozenset[str]:
        disks = World.load(self._places.world).disks
        return frozenset(disk.device_no for disk in disks if disk.slot)

    def _watch(self) -> bool:
        """Show the bar until every disk is settled; False when that takes too long."""
        from deploy.demonstration import show, tables

        plugged = self._plugged()
        progress = tables.progress(plugged)
        limit = max(_LEAST_SECONDS, _SECONDS_PER_DISK * progress.total)
        until = time.monotonic() + limit
        with show.Live(self._console, progress.total) as live:
            while not progress.finished and time.monotonic() < until:
                live.show(progress)
                self._tend()
                time.sleep(_LOOK_SECONDS)
                progress = tables.progress(plugged)
            live.show(progress)
        return progress.finished

    def _tend(self) -> None:
        for name in self._stack.tend():
            self._restarted = True
            self._say(f"[yellow]{name} 意外退出, 已重新启动 (ended, started again)[/yellow]")

    def _write_result(self, found: dict[str, object]) -> None:
        text = json.dumps(found, ensure_ascii=False, indent=1)
        self._options.json.write_text(text + "\n", encoding="utf-8")

    # -- afterwards -----------------------------------------------------------------------------

    def _stay(self) -> int:
        """Stay up until somebody ends it."""
        from deploy.demonstration import show, tables

        password = accounts_of(self._places).password
        show.welcome(self._console, self._stack.url, password, tables.people())
        while True:
            self._tend()
            time.sleep(1)

    def _say(self, text: str) -> None:
        self._console.print(text)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


if __name__ == "__main__":
    sys.exit(main())
