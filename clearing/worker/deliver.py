"""Bringing the journal to the server: what attempts left behind whose process is gone.

Runs at the start of the worker, before every claim and every few seconds. Never touches the log of
a live attempt, never drops what the server has not answered for.
"""

from __future__ import annotations

import logging
from typing import Any

from clearing.wire import FactKind
from clearing.worker.client import WITHIN_SECONDS, Refused, ServerClient, ServerError, Unwell
from clearing.worker.journal import AttemptLog, Busy, Journal

log_ = logging.getLogger(__name__)

LOST_WORKER = "worker lost"
# The run is not there, or what we say of it is not understood: asking again changes nothing.
_NEVER = frozenset({400, 404, 410, 413, 422})


def deliver(
    log: AttemptLog, journal: Journal, client: ServerClient, *, within: float = WITHIN_SECONDS
) -> bool:
    """Tell the server how a dead attempt ended, its facts with it; False when the run was not ours
    any more (the facts count as evidence). Raises ServerError: all is kept.

    PIN windows become facts first; then everything goes in one call, in order."""
    log.tell_pin(journal.pins)
    facts = log.undelivered
    try:
        if log.outcome is not None:
            ours = client.settle(log.run_id, log.attempt, log.outcome, facts, within=within)
        else:
            detail = log.detail or LOST_WORKER
            ours = client.release(log.run_id, log.attempt, facts, detail, within=within)
    except Refused as refused:
        if refused.status in _NEVER:
            log_.error("run %s: server answers %s, journal set aside", log.run_id, refused)
            _salvage(log, client, facts, within)
            log.set_aside()
            return False
        raise
    log.remove()
    return ours


def _salvage(
    log: AttemptLog, client: ServerClient, facts: list[dict[str, Any]], within: float
) -> None:
    """Something among the facts is not understood: the PINs and the end of the run do not wait
    for a person. Raises Unreachable."""
    pins = [fact for fact in facts if fact["kind"] == FactKind.PIN]
    for tell in (
        lambda: client.record(log.run_id, log.attempt, pins, within=within),
        lambda: client.release(log.run_id, log.attempt, (), "facts not understood", within=within),
    ):
        try:
            tell()
        except Refused as refused:
            log_.error("run %s: server answers %s", log.run_id, refused)


def flush(journal: Journal, client: ServerClient, *, within: float = WITHIN_SECONDS) -> int:
    """Deliver every dead attempt; how many. Raises ServerError when some could not be.

    One that the server stumbles over does not hold up the others' PINs; a server that is away does.
    """
    delivered = 0
    stumbled: Unwell | None = None
    for log in journal.dead():
        with log:
            try:
                deliver(log, journal, client, within=within)
                delivered += 1
            except Unwell as error:
                stumbled = error
    if stumbled is not None:
        raise stumbled
    return delivered


def give_back(
    journal: Journal,
    client: ServerClient,
    *,
    run_id: int,
    attempt: str,
    device_no: str,
    detail: str,
) -> None:
    """End an attempt whose process died. What cannot be told now waits in the journal."""
    try:
        with journal.open(run_id, attempt, device_no) as log:
            if log.outcome is None:
                log.end(None, detail)
            deliver(log, journal, client)
    except Busy:
        log_.info("run %s: another thread is delivering it", run_id)
    except ServerError as error:
        log_.warning("run %s: not told the server yet: %s", run_id, error)
