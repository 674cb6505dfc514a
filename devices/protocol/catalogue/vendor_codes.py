"""What the vendors' own codes mean: the signs of domain.md §7, each mapped to a code of ours.

Owns the raw codes of disks and of the programs that speak for them: Aisino (decimal), Baiwang
(``09d1…``, ``0963…``), UKey and OperateNet (``-9600…``), the card's status words (four hexadecimal
digits) and PC/SC (``0x8010…``). The spaces do not overlap, so one table serves all.

Must never: guess. An unknown code is ``device_refused`` (class software): it is shown raw, counted
and added here once somebody knows what it means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from devices.protocol.failures import Code

_SIGNS: Mapping[Code, tuple[str, ...]] = {
    # PC/SC: no smart card, removed card, unknown reader, reader unavailable, no reader at all
    Code.DISK_ABSENT: (
        "4001", "163", "0x8010000c", "0x80100069", "0x80100009", "0x80100017", "0x8010002e",
    ),
    Code.SEVERAL_DISKS: ("4002", "767", "999"),
    Code.WRONG_DISK: ("-960032033",),
    Code.DISK_IN_USE: ("0x8010000b",),
    # PC/SC: timeout, comm data lost, unresponsive card, reset card, unpowered card
    Code.NO_ANSWER: (
        "3001", "3065", "3072", "4",
        "0x8010000a", "0x8010002f", "0x80100066", "0x80100067", "0x80100068",
    ),
    # PC/SC: no service, service stopped
    Code.MACHINE_FAULT: ("0x8010001d", "0x8010001e"),
    Code.PASSWORD_LOCKED: ("09d10b", "6983", "238", "9303", "6a81"),
    Code.CERTIFICATE_PASSWORD_WRONG: ("168", "-960032031", "-960032032"),
    Code.CERTIFICATE_PASSWORD_LOCKED: ("166",),
    Code.CERTIFICATE_INVALID: (
        "-960011100", "112", "97", "98", "99", "100", "101", "102", "103",
    ),
    Code.INVOICES_PENDING: ("250", "246", "781", "09d11f", "09d120", "09d121", "09d122"),
    Code.OTHER_TYPE_OPEN: ("248", "未抄报"),
    Code.OLDEST_FIRST: ("245",),
    Code.CLEAR_FIRST: ("204",),
    Code.REPORT_FIRST: ("19",),
    Code.PERIOD_DATA_EXIST: ("202", "1086"),
    Code.NOTHING_TO_REPORT: ("195", "09d11b"),
    Code.ALREADY_CLEARED: ("09d118",),
    Code.OUTSIDE_WINDOW: ("199", "191"),
    Code.PAST_DEADLINE: ("21", "702", "09d109", "ee"),
    Code.DEVICE_CLOCK_WRONG: ("506", "706", "时钟校准因子失效"),
    Code.CLEAR_DATA_MISMATCH: ("155", "156", "157", "158", "159", "6988"),
    Code.BUREAU_UNREACHABLE: ("95",),
    Code.DEVICE_DAMAGED: ("241",),
    Code.ROLLS_PENDING: ("209", "222"),
    Code.OFFLINE_LIMIT: ("247", "768", "769"),
    Code.DEVICE_AUTH_MISMATCH: ("150", "151", "152", "153"),
}  # fmt: skip

_BY_SIGN: Mapping[str, Code] = {sign: code for code, signs in _SIGNS.items() for sign in signs}

_PASSWORD_TRIES = re.compile(r"(?:63|09d1)c([0-9a-f])")
_CERTIFICATE_TRIES = re.compile(r"0963c([0-9a-f])")
_OPERATE_NET = re.compile(r"-9600111\d\d")


def from_device_code(raw: str) -> Code:
    """Our code for a disk's or component's raw code; letters in either case.

    Families: ``63Cx``/``09d1cX`` password and ``0963cX`` certificate password with X tries left
    (0: locked), ``-9600111xx`` the connection to the bureau. Unknown: ``device_refused``.
    """
    sign = raw.strip().lower()
    if known := _BY_SIGN.get(sign):
        return known
    if tries := _PASSWORD_TRIES.fullmatch(sign):
        return Code.PASSWORD_LOCKED if tries[1] == "0" else Code.PASSWORD_WRONG
    if tries := _CERTIFICATE_TRIES.fullmatch(sign):
        locked = tries[1] == "0"
        return Code.CERTIFICATE_PASSWORD_LOCKED if locked else Code.CERTIFICATE_PASSWORD_WRONG
    if _OPERATE_NET.fullmatch(sign):
        return Code.BUREAU_UNREACHABLE
    return Code.DEVICE_REFUSED


def tries_left_in(raw: str) -> int | None:
    """How many password tries a raw code says are left; None when it says nothing of it."""
    sign = raw.strip().lower()
    if sign in ("6983", "09d10b", "238", "166"):
        return 0
    tries = _PASSWORD_TRIES.fullmatch(sign) or _CERTIFICATE_TRIES.fullmatch(sign)
    return int(tries[1], 16) if tries else None
