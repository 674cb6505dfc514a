"""The storm: an agency's disks are cleared while everything around them is killed, cut and swapped.

``deploy/storm [--disks N] [--minutes M] [--seed S] [--no-namespaces] [--json FILE] [--keep]``. All
real processes (PostgreSQL, Valkey, web, sweeper, stand-in bureau, pcscd, reader machines), each
reader machine in a network namespace of its own. Owns the order of events, from the empty folder to
the report. The accidents are drawn before the first process starts (:mod:`.weather.schedule`).
Status 0: no violation; 1: violations; 2: the storm itself could not be played.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from deploy import readers
from deploy.demonstration.child import ROOT
from deploy.demonstration.play import Play
from deploy.demonstration.press import PressError
from deploy.demonstration.sheet import write_sheet
from deploy.embedded import EmbeddedError
from deploy.private import private_folder
from deploy.stack import StackError
from deploy.weather import network
from deploy.weather.button import Person
from deploy.weather.house import House
from deploy.weather.pace import QUIET, time_factor
from deploy.weather.report import Course, ends, show, write
from deploy.weather.scene import Scene, set_scene
from deploy.weather.schedule import Accident, Kind, draw
from deploy.weather.strike import Striker

OK, WRONG, FAILED = 0, 1, 2

_PARALLEL = 4
_PRESS_SECONDS = 15.0
_STANDSTILL_SECONDS = 3000.0  # by the time factor, like the pauses before a new try
_MOST_PRESSES_AFTERWARDS = 3
_LOOK_SECONDS = 0.5

log = logging.getLogger("storm")


class StormError(RuntimeError):
    """The storm cannot be played; the text is for whoever started it."""


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    options = _options(given)
    console = Console(highlight=False)
    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, _interrupt)
    try:
        if not (options.no_namespaces or options.inside or options.schedule):
            if lacking := network.missing():
                raise StormError(
                    f"缺少网络命名空间所需 (missing for network namespaces): {', '.join(lacking)}\n"
                    "加 --no-namespaces 可不断网进行 (without cuts of the network: --no-namespaces)"
                )
            network.enter([sys.executable, "-m", "deploy.storm_run", *given, "--inside"])
        return Storm(options, console).run()
    except KeyboardInterrupt:
        console.print("已中断 (interrupted).")
        return FAILED
    except (StormError, EmbeddedError, StackError, PressError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return FAILED


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy/storm", description="清卡台风暴测试 (全部模拟)")
    parser.add_argument("--disks", type=int, default=40, help="税盘数 (default: 40)")
    parser.add_argument("--minutes", type=float, default=1.0, help="分钟 (default: 1)")
    parser.add_argument("--seed", type=int, help="随机种子 (default: drawn, and printed)")
    parser.add_argument(
        "--time-factor", type=float, help="时限系数 (default: measured; of every limit and lease)"
    )
    parser.add_argument("--no-namespaces", action="store_true", help="不断网 (no network is cut)")
    parser.add_argument("--no-pcsc", action="store_true", help="不用 pcscd (all cards in racks)")
    parser.add_argument("--schedule", action="store_true", help="只列出事故表 (only print it)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="把报告写入 FILE (the report)")
    parser.add_argument("--dir", type=Path, help="运行目录 (default: .run/storm-PID)")
    parser.add_argument("--keep", action="store_true", help="成功后也保留目录 (keep the folder)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not 2 <= options.disks <= 999 or not 0 < options.minutes <= 600:
        parser.error("--disks 2…999, --minutes > 0")
    if options.time_factor is not None and not 0.01 <= options.time_factor <= 1:
        parser.error("--time-factor 0.01…1")
    if options.seed is None:
        options.seed = random.randrange(10**6)  # noqa: S311 - it is printed
    return options


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


class Storm:
    """One storm."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self._options = options
        self._console = console
        self._seconds = options.minutes * 60
        self._lacking = ["--no-pcsc"] if options.no_pcsc else readers.missing()
        self._play = Play.beginning(dt.datetime.now(dt.UTC))
        self._scene: Scene = set_scene(
            options.seed, options.disks, self._play.window, pcsc=not self._lacking
        )
        playable = self._scene.playable(network=not options.no_namespaces)
        self._accidents = draw(options.seed, self._seconds, playable)
        self._factor: float = options.time_factor or QUIET
        self._ended_alone: Counter[str] = Counter()

    def run(self) -> int:
        options = self._options
        self._announce()
        if options.schedule:
            for accident in self._accidents:
                self._console.print(_line(accident), markup=False)
            return OK
        if options.time_factor is None:
            self._factor = time_factor()
        self._console.print(f"时限系数 (time factor, of every limit and lease): {self._factor:g}")
        root = (options.dir or ROOT / ".run" / f"storm-{os.getpid()}").absolute()
        root.parent.mkdir(parents=True, exist_ok=True)
        private_folder(root)
        _log_to(root / "storm.log")
        (root / "schedule.json").write_text(
            json.dumps([accident.to_json() for accident in self._accidents], indent=1)
        )
        cables = None if options.no_namespaces else network.Network(self._scene.machines)
        house = House(
            root,
            cables,
            machines=self._scene.machines,
            readers=self._scene.readers,
            limits_scale=self._factor,
            clock_offset=self._play.offset,
        )
        status = FAILED
        try:
            with house:
                status = self._weather(house)
        finally:
            if cables is not None:
                cables.close()
            if status == OK and not options.keep:
                shutil.rmtree(house.places.sockets, ignore_errors=True)
                shutil.rmtree(root, ignore_errors=True)
            else:
                self._console.print(f"日志与数据 (logs and data): {root}", soft_wrap=True)
        return status

    def _announce(self) -> None:
        options, scene = self._options, self._scene
        cards = f"pcscd: {', '.join(scene.readers)}" if scene.readers else "no pcscd"
        if self._lacking:
            cards += f" (缺 missing: {', '.join(self._lacking)})"
        cut = "不断网 (network not cut)" if options.no_namespaces else "各在其网 (namespaces)"
        self._console.print(
            f"seed {options.seed}: {options.disks} 盘, {len(scene.machines)} 台读盘机, "
            f"{options.minutes:g} 分钟, {len(self._accidents)} 次事故; {cut}; {cards}",
            markup=False,
            soft_wrap=True,
        )

    # -- order of events ------------------------------------------------------------------------

    def _weather(self, house: House) -> int:
        options = self._options
        self._lay_out(house)
        house.start()
        os.environ.update(house.environment() | {"QINGKA_LOG_LEVEL": "WARNING"})
        import django
        from django.db import connections

        django.setup()
        self._await_disks(house)
        began = time.monotonic()
        stop = threading.Event()
        person = Person(house, self._scene, options.seed)
        presser = threading.Thread(target=person.press_in_waves, args=(self._seconds, began, stop))
        presser.start()
        striker = Striker(house)
        try:
            striker.play(self._accidents, began, lambda: self._tend(house))
            while time.monotonic() < began + self._seconds:
                self._tend(house)
                time.sleep(_LOOK_SECONDS)
            presser.join(_PRESS_SECONDS)  # the last press may still be on its way
        finally:
            stop.set()
            presser.join()
        stormed = time.monotonic() - began
        connections.close_all()  # they are from before the database went down
        cleared = self._cleared()
        settled = self._calm(house, person)
        calm = time.monotonic() - began - stormed
        for name in house.machines:
            house.end(name)
        course = Course(stormed, calm, cleared, person.presses)
        return self._report(house, striker, settled, course)

    def _lay_out(self, house: House) -> None:
        places, scene = house.places, self._scene
        house.take()
        sheet = places.root / "clients.xlsx"
        write_sheet(scene.clients, sheet)
        scene.expected.save(places.expected)
        scene.world.save(places.world)
        setup = ["-m", "deploy.demonstration.setup", "--root", str(places.root)]
        setup += ["--server", house.url, "--bureau", house.bureau_url, "--clients", str(sheet)]
        setup += ["--parallel", str(_PARALLEL)]
        house.prepare = ((*setup, *(word for name in scene.machines for word in _machine(name))),)

    def _plugged(self) -> frozenset[str]:
        return frozenset(disk.device_no for disk in self._scene.world.disks if disk.slot)

    def _await_disks(self, house: House) -> None:
        from deploy.demonstration import tables

        if not self._await(house, len(self._plugged()), tables.disks_present):
            seen = tables.disks_present()
            raise StormError(f"only {seen} of {len(self._plugged())} disks are reported")

    def _await(self, house: House, all_of_them: int, count: Callable[[], int]) -> bool:
        """Until all are counted. Given up when a long time passes without one more: how long it
        may take in all is a matter of how busy this computer is."""
        most, until = -1, 0.0
        while (seen := count()) < all_of_them:
            if seen > most:
                most, until = seen, time.monotonic() + _STANDSTILL_SECONDS * self._factor
            if time.monotonic() > until:
                return False
            self._tend(house)
            time.sleep(_LOOK_SECONDS)
        return True

    def _tend(self, house: House) -> None:
        for name in house.begin_again_what_ended():
            log.warning("%s ended by itself, started again", name)
            self._ended_alone[name] += 1

    def _cleared(self) -> int:
        """Disks that are cleared at the end of the storm, before it was calm."""
        from deploy.demonstration import tables

        period = self._scene.expected.period
        return sum(
            claim.states.get(period) == "cleared" and claim.cleared_by.get(period) == "us"
            for claim in tables.read_claims().disks
        )

    def _calm(self, house: House, person: Person) -> bool:
        """Let everything recover; press again what failed in the storm, as a person would."""
        person.press_unpressed()
        for _ in range(_MOST_PRESSES_AFTERWARDS):
            if not self._settle(house):
                return False
            if not person.press_again():
                return True
        return self._settle(house)

    def _settle(self, house: House) -> bool:
        from deploy.demonstration import tables

        plugged = self._plugged()
        return self._await(house, self._options.disks, lambda: tables.progress(plugged).settled)

    # -- the report -----------------------------------------------------------------------------

    def _report(self, house: House, striker: Striker, settled: bool, course: Course) -> int:
        from deploy.weather.verdict import verdict

        options, scene, places = self._options, self._scene, house.places
        found = verdict(
            disks=places.disks,
            bureau=places.bureau,
            machines=[places.machine_config(name).with_suffix("") for name in scene.machines],
            expected=scene.expected,
            clock_offset=self._play.offset,
        )
        late = [] if settled else ["久无进展, 没有办完 (nothing settled any more)"]
        report: dict[str, Any] = {
            "seed": options.seed,
            "disks": options.disks,
            "minutes": options.minutes,
            "time_factor": self._factor,
            "machines": len(scene.machines),
            "namespaces": not options.no_namespaces,
            "pcscd": list(scene.readers),
            "missing": self._lacking,
            "accidents": {kind.value: n for kind in Kind if (n := striker.done[kind.value])},
            "accidents_in_all": striker.done.total(),
            "not_done": striker.undone,
            "storm_errors": striker.failures,
            "ended_by_itself": dict(self._ended_alone),
            "presses": dict(course.presses),
            "seconds": {"storm": round(course.storm, 1), "calm": round(course.calm, 1)},
            "cleared_in_the_storm": course.cleared,
            **ends(found.claims, scene.expected),
            "in_doubt": found.in_doubt,
            "violations": [*late, *found.violations],
        }
        write(report, places.root / "report.json", options.json)
        show(report, self._console)
        if report["violations"]:
            return WRONG
        return FAILED if striker.failures else OK


def _log_to(path: Path) -> None:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # Django's own settings would say it once more


def _machine(name: str) -> tuple[str, str]:
    return "--machine", name


def _line(accident: Accident) -> str:
    where = " ".join(accident.target)
    return f"{accident.at:7.1f} s  {accident.kind:20} {accident.lasts:5.1f} s  {where}"


if __name__ == "__main__":
    sys.exit(main())
