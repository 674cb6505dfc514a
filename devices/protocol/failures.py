"""The one catalogue of failures: what went wrong, whose move it is, what to do and what not.

Every failure that leaves a driver, the bureau session or the procedure is a :class:`Failure` with
one of these codes; the vendor's or bureau's raw code and text travel with it.
"""

from __future__ import annotations

import enum


class Code(enum.StrEnum):
    """Stable codes of ours; they stand in the database and in the API."""

    DISK_ABSENT = "disk_absent"
    SEVERAL_DISKS = "several_disks"
    WRONG_DISK = "wrong_disk"
    FOREIGN_CARD = "foreign_card"
    DISK_IN_USE = "disk_in_use"
    NO_ANSWER = "no_answer"
    DEVICE_GARBLED = "device_garbled"
    DEVICE_REFUSED = "device_refused"
    PASSWORD_WRONG = "password_wrong"
    PASSWORD_LAST_TRIES = "password_last_tries"
    PASSWORD_LOCKED = "password_locked"
    PASSWORD_MISSING = "password_missing"
    CERTIFICATE_PASSWORD_WRONG = "certificate_password_wrong"
    CERTIFICATE_PASSWORD_LOCKED = "certificate_password_locked"
    CERTIFICATE_INVALID = "certificate_invalid"
    PIN_UNKNOWN = "pin_unknown"
    PIN_HELD = "pin_held"
    INVOICES_PENDING = "invoices_pending"
    OTHER_TYPE_OPEN = "other_type_open"
    OLDEST_FIRST = "oldest_first"
    CLEAR_FIRST = "clear_first"
    REPORT_FIRST = "report_first"
    PERIOD_DATA_EXIST = "period_data_exist"
    NOTHING_TO_REPORT = "nothing_to_report"
    ALREADY_CLEARED = "already_cleared"
    NOT_REPORTED = "not_reported"
    NOT_FILED = "not_filed"
    COMPARISON_FAILED = "comparison_failed"
    OUTSIDE_WINDOW = "outside_window"
    PAST_DEADLINE = "past_deadline"
    DORMANT = "dormant"
    CLOCK_WRONG = "clock_wrong"
    QUIET_HOURS = "quiet_hours"
    DEVICE_CLOCK_WRONG = "device_clock_wrong"
    CLEAR_DATA_MISMATCH = "clear_data_mismatch"
    REPORT_NOT_SEEN = "report_not_seen"
    CLEAR_NOT_SEEN = "clear_not_seen"
    BACKUP_FAILED = "backup_failed"
    BUREAU_UNREACHABLE = "bureau_unreachable"
    BUREAU_GARBLED = "bureau_garbled"
    BUREAU_REFUSED = "bureau_refused"
    BUREAU_UNKNOWN_TAXPAYER = "bureau_unknown_taxpayer"
    TRAINING_DISK = "training_disk"
    RETIRED_DISK = "retired_disk"
    DEVICE_DAMAGED = "device_damaged"
    ROLLS_PENDING = "rolls_pending"
    OFFLINE_LIMIT = "offline_limit"
    DEVICE_AUTH_MISMATCH = "device_auth_mismatch"
    NOT_SUPPORTED = "not_supported"
    MACHINE_FAULT = "machine_fault"


class FailureClass(enum.StrEnum):
    """Who moves next."""

    RETRY = "retry"
    PERSON = "person"
    BUREAU = "bureau"
    DATA = "data"
    SOFTWARE = "software"
    DONE = "done"


class Failure(Exception):
    """One failure of the catalogue.

    ``raw_code`` / ``raw_text``: exactly what the device or the bureau said.
    ``outcome_unknown``: the command may have taken effect; only a read can tell.
    ``tries_left``: remaining password tries, where the disk told them.
    ``detail``: one more fact for the person (a count, a type, a date), never a secret.
    """

    def __init__(
        self,
        code: Code,
        *,
        raw_code: str = "",
        raw_text: str = "",
        detail: str = "",
        outcome_unknown: bool = False,
        tries_left: int | None = None,
    ) -> None:
        super().__init__(code, raw_code, raw_text, detail)
        self.code = code
        self.raw_code = raw_code
        self.raw_text = raw_text
        self.detail = detail
        self.outcome_unknown = outcome_unknown
        self.tries_left = tries_left

    def __str__(self) -> str:
        raw = f" [{self.raw_code} {self.raw_text}]".replace(" ]", "]") if self.raw_code else ""
        return f"{self.code}{raw}{' ' + self.detail if self.detail else ''}"
