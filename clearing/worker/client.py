"""The machine API as the worker calls it: JSON over HTTPS, each call limited and repeatable.

Owns the way to the server: time limits, jittered retries, the clock difference, and what a
refusal means. Every call is idempotent by attempt or fact number, so a lost answer is simply asked
again. It keeps nothing on the disk (that is the journal's business) and never puts the token, a
password or a body into a log or an error.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import random
import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx

from clearing.stages import Denied
from clearing.wire import API_VERSION, Denial, Order, Outcome
from clearing.worker.steady import ServerClock, steady
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

Fact = Mapping[str, Any]
Json = dict[str, Any]

#: Beyond this difference between server and machine no irreversible step is asked for.
CLOCK_LIMIT_SECONDS = 120.0
#: How long one call is tried altogether, where the caller does not say.
WITHIN_SECONDS = 20.0

_NO_RUN = 0
_NO_ATTEMPT = uuid.UUID(int=0)
_TRY_SECONDS = 15.0
_CONNECT_SECONDS = 5.0
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 3.0
_DETAIL_LENGTH = 200
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class ServerError(Exception):
    """A call that brought no usable answer."""


class Unreachable(ServerError):
    """No answer within the time; it may have been acted on."""


class Unwell(Unreachable):
    """The server answered that it cannot now (5xx, 429): perhaps only this call."""


class Refused(ServerError):
    """The server answered and said no: 401 unknown token, 403 revoked, 426 worker too old, …"""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(f"HTTP {status} {body.get('reason', '')}".strip())
        self.status = status
        self.body = body

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))


class ServerClient:
    """One machine's connection to its server; may be shared between threads."""

    def __init__(
        self,
        server: str,
        token: str,
        *,
        clock: ServerClock | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.clock = clock or ServerClock()
        self._http = httpx.Client(
            base_url=f"{server}/machine/v1/",
            headers={"Authorization": f"Machine {token}"},
            trust_env=False,
            follow_redirects=False,
            transport=transport,
            # Reading the certificates costs more than a run's requests: not where none are used.
            verify=ssl.create_default_context() if server.startswith("https:") else False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- the machine ------------------------------------------------------------------------

    def presence(
        self, version: str, slots: Sequence[Json], *, within: float = WITHIN_SECONDS
    ) -> Json:
        """Tell who is plugged in where. Raises ServerError."""
        body = {"version": version, "api": API_VERSION, "slots": list(slots)}
        return self._post("presence", body, within)

    def claim(self, attempt: str) -> Order | None:
        """The next run for this machine. Raises ServerError; Failure(machine_fault) for an order
        that cannot be read."""
        raw = self._post("claim", {"attempt": attempt}).get("order")
        if raw is None:
            return None
        try:
            return Order.from_json(raw)
        except Failure as failure:  # a server of another age: the run must not hang on us
            if isinstance(raw, dict) and isinstance(raw.get("run_id"), int):
                self.release(raw["run_id"], attempt, (), failure.detail)
            raise

    def greet(self, *, within: float = WITHIN_SECONDS) -> int:
        """Prove address, token and machine by a call that changes nothing; the server's version of
        the API. Raises ServerError; Refused for an unknown token (401) or a revoked machine (403).

        It renews the lease of a run that cannot be: "not found" is what the server says to whoever
        it knows."""
        try:
            answer = self._post(f"runs/{_NO_RUN}/renew", {"attempt": str(_NO_ATTEMPT)}, within)
        except Refused as refused:
            if refused.status != httpx.codes.NOT_FOUND or "api" not in refused.body:
                raise
            answer = refused.body
        return int(answer.get("api") or 0)

    # -- permission -------------------------------------------------------------------------

    def check_clock(self) -> None:
        """Raises Failure(clock_wrong) when server and machine disagree."""
        difference = self.clock.difference()
        if difference is not None and abs(difference) > CLOCK_LIMIT_SECONDS:
            raise Failure(Code.CLOCK_WRONG, detail=f"{difference:+.0f} s")

    def intend(
        self,
        run_id: int,
        attempt: str,
        *,
        stage: str,
        unit: str,
        period: Month,
        rolls_pin: bool,
        facts: Sequence[Fact],
        within: float = WITHIN_SECONDS,
    ) -> float:
        """Ask for permission; how long it lasts, in seconds from before this call.

        Raises Failure(clock_wrong) before anything is asked, Denied, ServerError.
        """
        if self.clock.difference() is None:  # no answer yet in this process
            self.record(run_id, attempt, (), within=within)
        self.check_clock()
        body = {
            "attempt": attempt,
            "stage": stage,
            "unit": unit,
            "period": str(period),
            "rolls_pin": rolls_pin,
            "facts": list(facts),
        }
        answer = self._permission(run_id, "intend", body, within)
        return float(answer["duration"]) if answer.get("granted") is True else 0.0

    def keep(
        self,
        run_id: int,
        attempt: str,
        *,
        period: Month,
        backup: bytes,
        facts: Sequence[Fact],
        within: float = WITHIN_SECONDS,
    ) -> None:
        """Store a backup. Raises Failure(backup_failed) when the server did not keep the same
        bytes, Denied, ServerError."""
        digest = hashlib.sha256(backup).hexdigest()
        body = {
            "attempt": attempt,
            "period": str(period),
            "sha256": digest,
            "content": base64.b64encode(backup).decode(),
            "facts": list(facts),
        }
        answer = self._permission(run_id, "keep", body, within)
        if answer.get("kept") is not True or answer.get("sha256") != digest:
            raise Failure(Code.BACKUP_FAILED)

    def renew(self, run_id: int, attempt: str, *, within: float = WITHIN_SECONDS) -> bool:
        """Whether the lease still lives. Raises ServerError, 409 excepted."""
        try:
            self._post(f"runs/{run_id}/renew", {"attempt": attempt}, within)
        except Refused as refused:
            if refused.status == httpx.codes.CONFLICT:
                return False
            raise
        return True

    # -- facts ------------------------------------------------------------------------------

    def record(
        self,
        run_id: int,
        attempt: str,
        facts: Sequence[Fact],
        *,
        within: float = WITHIN_SECONDS,
    ) -> None:
        """Deliver facts. Raises ServerError."""
        body = {"attempt": attempt, "facts": list(facts)}
        self._post(f"runs/{run_id}/record", body, within)

    def settle(
        self,
        run_id: int,
        attempt: str,
        outcome: Outcome,
        facts: Sequence[Fact],
        *,
        within: float = WITHIN_SECONDS,
    ) -> bool:
        """End the attempt; False when the lease was lost (facts stay). Raises ServerError."""
        body = {"attempt": attempt, "outcome": outcome.to_json(), "facts": list(facts)}
        return self._end(f"runs/{run_id}/settle", body, within)

    def release(
        self,
        run_id: int,
        attempt: str,
        facts: Sequence[Fact],
        detail: str,
        *,
        within: float = WITHIN_SECONDS,
    ) -> bool:
        """Give the run back, unsettled; False when it was not ours any more. Raises ServerError."""
        body = {"attempt": attempt, "facts": list(facts), "detail": detail[:_DETAIL_LENGTH]}
        return self._end(f"runs/{run_id}/release", body, within)

    # -- the way there ----------------------------------------------------------------------

    def _end(self, path: str, body: Json, within: float) -> bool:
        try:
            self._post(path, body, within)
        except Refused as refused:
            if refused.status == httpx.codes.CONFLICT:
                return False
            raise
        return True

    def _permission(self, run_id: int, verb: str, body: Json, within: float) -> Json:
        try:
            return self._post(f"runs/{run_id}/{verb}", body, within)
        except Refused as refused:
            if refused.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
                raise Denied(Denial.REVOKED, str(refused)) from None
            if refused.status == httpx.codes.CONFLICT:
                detail = str(refused.body.get("detail", ""))
                raise Denied(_denial(refused.reason), detail) from None
            if refused.body.get("error") == Code.BACKUP_FAILED:
                raise Failure(Code.BACKUP_FAILED) from None
            raise

    def _post(self, path: str, body: Json, within: float = WITHIN_SECONDS) -> Json:
        """One call, tried until it is answered or ``within`` seconds have passed."""
        until = steady() + within
        pause = _FIRST_PAUSE
        while True:
            left = max(0.05, until - steady())
            problem: ServerError
            try:
                return self._once(path, body, min(_TRY_SECONDS, left))
            except Unreachable as error:
                problem = error
            except Refused as error:
                if error.status not in _AGAIN:
                    raise
                problem = Unwell(str(error))
            wait = pause * random.uniform(0.5, 1.5)  # noqa: S311 - spreads machines, guards nothing
            if steady() + wait >= until:
                raise problem
            time.sleep(wait)
            pause = min(_LONGEST_PAUSE, pause * 2)

    def _once(self, path: str, body: Json, seconds: float) -> Json:
        timeout = httpx.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))
        try:
            response = self._http.post(path, json=body, timeout=timeout)
        except httpx.HTTPError as error:
            raise Unreachable(type(error).__name__) from None
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            if response.is_success:  # a portal or a proxy speaks in the server's place
                raise Unreachable("not the machine API")
            answer = {}
        self._see_time(answer.get("time"))
        if response.status_code != httpx.codes.OK:
            raise Refused(response.status_code, answer)
        return answer

    def _see_time(self, text: object) -> None:
        if not isinstance(text, str):
            return
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            return
        if moment.tzinfo is not None:
            self.clock.saw(moment)


def _denial(reason: str) -> Denial:
    """A reason of a newer server stops the run like a lost lease: nothing is written."""
    try:
        return Denial(reason)
    except ValueError:
        return Denial.LEASE_LOST
