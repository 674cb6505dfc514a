"""The person at the button of a storm: presses it part by part, and again for what went wrong.

Owns who is pressed for and when, and counts it. Presses over HTTP like any browser, until the page
says that it has begun; the tables are only read. To be used after ``django.setup()``.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence

import httpx

from deploy.demonstration.people import accounts_of
from deploy.demonstration.press import PressError, press
from deploy.demonstration.scenario import Case
from deploy.weather.house import House
from deploy.weather.scene import Scene

_WAVE_SECONDS = 8.0
#: In which share of the storm the button is pressed for everybody, part by part.
_PRESSING = 0.6
_READ_AGAIN = 4

log = logging.getLogger("storm")


class Person:
    """``presses``: how often, by what for; of those afterwards the clients are counted."""

    def __init__(self, house: House, scene: Scene, seed: int) -> None:
        self._house = house
        self._scene = scene
        self._chance = random.Random(f"presses {seed}")  # noqa: S311 - to be repeated
        self.presses: Counter[str] = Counter()

    def press_in_waves(self, seconds: float, began: float, stop: threading.Event) -> None:
        """A part of the clients at a time; the usual ones among the earlier are read once more."""
        ids = _companies()
        who = list(self._scene.clients)
        self._chance.shuffle(who)
        waves = max(1, round(seconds * _PRESSING / _WAVE_SECONDS))
        for wave in range(waves):
            due = began + wave * seconds * _PRESSING / waves
            if stop.wait(max(0.0, due - time.monotonic())):
                return
            part = who[wave * len(who) // waves : (wave + 1) * len(who) // waves]
            if part:
                self._press([ids[row.tax_id] for row in part], "report_and_clear", stop)
            before = [row for row in who[: wave * len(who) // waves] if row.case is Case.NORMAL]
            if before and wave % 2:
                some = self._chance.sample(before, min(_READ_AGAIN, len(before)))
                self._press([ids[row.tax_id] for row in some], "read", stop)

    def press_unpressed(self) -> None:
        """For the clients of whom the storm let nobody press the button."""
        from deploy.demonstration import tables

        left = [claim.tax_id for claim in tables.read_claims().disks if not claim.outcome]
        self._press_afterwards("afterwards", left)

    def press_again(self) -> bool:
        """For those whose disk did not end as its world says, if there are any; a true doubt is
        not pressed again."""
        from deploy.demonstration import tables

        wanted = {disk.device_no: (disk.ending, disk.code) for disk in self._scene.expected.disks}
        again = [
            claim.tax_id
            for claim in tables.read_claims().disks
            if not claim.excused
            and (claim.ending, claim.code)
            != wanted.get(claim.device_no, (claim.ending, claim.code))
        ]
        self._press_afterwards("again", again)
        return bool(again)

    def _press_afterwards(self, what: str, tax_ids: Sequence[str]) -> None:
        if not tax_ids:
            return
        log.info("pressed %s: %s", what, tax_ids)
        self.presses[what] += len(tax_ids)
        ids = _companies()
        self._press([ids[each] for each in tax_ids], "report_and_clear", threading.Event())

    def _press(self, companies: Sequence[int], action: str, stop: threading.Event) -> None:
        """As a person does: again until the page says that it has begun."""
        password = accounts_of(self._house.places).password
        while not stop.is_set():
            try:
                press(self._house.url, "owner", password, action=action, companies=companies)
            except (httpx.HTTPError, PressError) as error:
                log.info("press %s: %r", action, error)
                stop.wait(0.5)
            else:
                self.presses[action] += 1
                return
        log.info("not pressed: %s of %d clients", action, len(companies))


def _companies() -> dict[str, int]:
    from deploy.demonstration import tables

    return tables.companies()
