"""Which PIN may be sent, and the steps around a roll."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clearing.stages import Denied
from clearing.wire import Limits, Order
from clearing.worker.grant import Grant
from clearing.worker.journal import AttemptLog, Journal
from clearing.worker.pinbook import PinEntry, PinState
from clearing.worker.pins import JournalPinStore
from clearing.worker.steady import steady
from devices.drivers.contract import Pin
from devices.protocol.failures import Code, Failure

DEVICE = "A1B2C3D4E5F60718"
OLD, NEW = b"12345678", b"87654321"

Made = Callable[..., JournalPinStore]


def an_order(**changes: Any) -> Order:
    known: dict[str, Any] = {
        "run_id": 7,
        "attempt": "a1",
        "intent": "report",
        "period": "2026-02",
        "now": "2026-03-10T09:30:00+08:00",
        "slot": "A-01",
        "device_no": DEVICE,
        "tax_id": "",
        "terminal_no": 0,
        "kind": "ic_card",
        "bureau_url": "",
        "limits": Limits(),
        "device_password": OLD.decode(),
        "pin_generation": 3,
    }
    return Order(**known | changes)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


@pytest.fixture
def log(journal: Journal) -> Iterator[AttemptLog]:
    with journal.open(7, "a1", DEVICE) as opened:
        yield opened


@pytest.fixture
def grant() -> Grant:
    return Grant()


@pytest.fixture
def made(journal: Journal, log: AttemptLog, grant: Grant) -> Made:
    return lambda **changes: JournalPinStore(an_order(**changes), log, journal.pins, grant)


def permit(log: AttemptLog, grant: Grant, generation: int = 3) -> None:
    """What ``ledger.intend`` does."""
    log.ask_roll(generation)
    grant.take(steady(), 60.0)


def told(log: AttemptLog) -> list[dict[str, Any]]:
    return [fact["data"] for fact in log.undelivered]


def test_the_order_s_pin_is_sent(made: Made) -> None:
    assert made().current() == Pin(OLD, 3)


def test_a_pin_in_hexadecimal_is_the_same_pin(made: Made) -> None:
    assert made(device_password=OLD.hex()).current() == Pin(OLD, 3)


def test_a_newer_pin_in_this_machine_s_journal_wins(made: Made, journal: Journal) -> None:
    journal.pins.put(DEVICE, PinEntry(PinState.ROLLED, 4, NEW, 6, "old"))
    assert made().current() == Pin(NEW, 4)
    assert made(device_password="").current() == Pin(NEW, 4)


@pytest.mark.parametrize("generation", [4, 5])
def test_an_older_or_equal_one_does_not(made: Made, journal: Journal, generation: int) -> None:
    journal.pins.put(DEVICE, PinEntry(PinState.ROLLED, 4, NEW, 6, "old"))
    assert made(pin_generation=generation).current() == Pin(OLD, generation)


def test_an_open_window_here_sends_no_pin(made: Made, journal: Journal) -> None:
    journal.pins.put(DEVICE, PinEntry(PinState.OPEN, 3, OLD, 6, "old"))
    with pytest.raises(Failure) as caught:
        made().current()
    assert caught.value.code == Code.PIN_UNKNOWN
    # Whoever decided at the server gave the PIN a new generation.
    assert made(pin_generation=4).current() == Pin(OLD, 4)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"device_password": ""}, Code.PASSWORD_MISSING),
        ({"password_usable": False, "password_code": "password_locked"}, Code.PASSWORD_LOCKED),
        ({"password_usable": False, "password_code": "pin_held"}, Code.PIN_HELD),
        ({"password_usable": False, "password_code": "of a newer server"}, Code.PIN_UNKNOWN),
    ],
)
def test_a_password_that_may_not_be_sent_says_why(
    made: Made, changes: dict[str, Any], code: Code
) -> None:
    with pytest.raises(Failure) as caught:
        made(**changes).current()
    assert caught.value.code == code


def test_without_permission_no_window_opens(
    made: Made, journal: Journal, log: AttemptLog, grant: Grant
) -> None:
    with pytest.raises(Denied):
        made().begin()
    log.ask_roll(3)  # asked, and no answer
    with pytest.raises(Denied):
        made().begin()
    permit(log, grant, generation=2)  # permitted for another PIN
    with pytest.raises(Denied):
        made().begin()
    assert journal.pins.get(DEVICE) is None


def test_a_roll_is_kept_before_it_is_told(
    made: Made, journal: Journal, log: AttemptLog, grant: Grant
) -> None:
    store = made()
    permit(log, grant)
    store.begin()
    window = journal.pins.get(DEVICE)
    assert window == PinEntry(PinState.OPEN, 3, OLD, 7, "a1")
    assert told(log) == []

    store.rolled(NEW)
    assert journal.pins.get(DEVICE) == PinEntry(PinState.ROLLED, 4, NEW, 7, "a1")
    assert told(log) == [{"generation": 4, "pin": NEW.hex()}]
    assert store.current() == Pin(NEW, 4)


def test_one_permission_is_for_one_roll(made: Made, log: AttemptLog, grant: Grant) -> None:
    store = made()
    permit(log, grant)
    store.begin()
    store.rolled(NEW)
    with pytest.raises(Denied):
        store.begin()
    permit(log, grant, generation=4)
    store.begin()
    store.rolled(OLD)
    assert [fact["generation"] for fact in told(log)] == [4, 5]


def test_without_an_answer_nothing_more_is_sent(made: Made, log: AttemptLog, grant: Grant) -> None:
    store = made()
    permit(log, grant)
    store.begin()
    with pytest.raises(Failure) as caught:
        store.current()
    assert caught.value.code == Code.PIN_UNKNOWN


def test_a_refused_pin_closes_the_window_and_is_not_tried_again(
    made: Made, journal: Journal, log: AttemptLog, grant: Grant
) -> None:
    store = made()
    permit(log, grant)
    store.begin()
    store.refused()
    entry = journal.pins.get(DEVICE)
    assert entry is not None and entry.state == PinState.REFUSED
    assert told(log) == [{"generation": 3, "refused": True}]
    with pytest.raises(Failure) as caught:
        store.current()
    assert caught.value.code == Code.PASSWORD_WRONG


def test_a_pin_that_was_refused_is_not_sent_again_before_a_person_decided(
    made: Made, journal: Journal
) -> None:
    """Not even by another run, while the server has not heard of the refusal yet."""
    journal.pins.put(DEVICE, PinEntry(PinState.REFUSED, 3, OLD, 6, "old"))
    with pytest.raises(Failure) as caught:
        made().current()
    assert caught.value.code == Code.PASSWORD_WRONG
    assert made(device_password=NEW.decode()).current() == Pin(NEW, 3)  # that is another PIN
    assert made(pin_generation=4).current() == Pin(OLD, 4)  # somebody decided to try it


def test_a_pin_that_cannot_be_kept_is_not_rolled(
    made: Made, log: AttemptLog, grant: Grant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    permit(log, grant)
    monkeypatch.setattr("clearing.worker.pinbook.durable.replace", full)
    with pytest.raises(Failure) as caught:
        made().begin()
    assert caught.value.code == Code.MACHINE_FAULT


def test_no_pin_shows_in_a_repr() -> None:
    assert "12345678" not in repr(PinEntry(PinState.OPEN, 3, OLD, 7, "a1"))
    assert "12345678" not in repr(an_order())
