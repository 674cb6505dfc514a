"""Runs of one group of slots, one after another."""

from __future__ import annotations

import threading
from collections.abc import Callable

from clearing.worker.turns import Turns

LONG = 3600.0


def waiting(
    turns: Turns,
    done: Callable[[], None],
    keep_on: Callable[[], bool],
    gave_up: Callable[[], None] = lambda: None,
) -> threading.Event:
    """Somebody who waits for the group in a thread; the event says that it was asked."""
    asked = threading.Event()

    def ask() -> bool:
        asked.set()
        return keep_on()

    def wait() -> None:
        with turns.turn("G", ask, 0.01) as ours:
            if ours:
                done()
        if not ours:
            gave_up()

    threading.Thread(target=wait, daemon=True).start()
    return asked


def test_they_come_in_the_order_in_which_they_came() -> None:
    turns, served, end = Turns(), [], threading.Event()

    def third() -> None:
        served.append(3)
        end.set()

    with turns.turn("G", lambda: True, LONG) as ours:
        assert ours and not turns.is_free("G")
        assert waiting(turns, lambda: served.append(2), lambda: True).wait(90)
        assert waiting(turns, third, lambda: True).wait(90)
        assert served == []
        with turns.turn("H", lambda: True, LONG) as other:
            assert other  # another group is another matter
    assert end.wait(90)
    assert served == [2, 3]
    assert turns.is_free("G")


def test_who_gives_up_keeps_nobody_waiting() -> None:
    turns, served, end = Turns(), [], threading.Event()
    go, left = threading.Event(), threading.Event()
    with turns.turn("G", lambda: True, LONG):
        gone = waiting(turns, lambda: served.append(2), lambda: not go.is_set(), left.set)
        assert gone.wait(90)
        assert waiting(turns, end.set, lambda: True).wait(90)
        go.set()
        turns.wake()
        assert left.wait(90)
    assert end.wait(90)
    assert served == []
