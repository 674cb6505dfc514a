"""The sample: 48 fictional clients of a fictional agency, their simulated disks, and their ends.

``clients.csv`` is the table: who they are and in which situation (情形). This module makes the
world of it for any window month, and says what must come of each disk by the rules of the domain.
The rules are restated here on purpose: an expectation made by the software would agree with it.
Everything is made up and simulated (模拟). No Django, no clock, no files but the table.
"""

from __future__ import annotations

import csv
import datetime as dt
import enum
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stdnum.cn import uscc

from clearing.bureau.standin.rules import next_deadline
from deploy.demonstration.expected import Expected, ExpectedDisk
from deploy.demonstration.kinds import IC_CARD, KINDS, fictional_device_no, types_in, units_of
from devices.protocol.month import Month
from devices.simulator.world import World, WorldDisk, WorldTaxpayer, WorldType

MACHINES = ("读盘机A", "读盘机B")
STAGE_MS = 200
BUREAU_MS = 100
UKEY_LAG_MS = 800  # a run of the demo reads the dates again for 1.2 s

#: The districts of Wuhan by the number in their bureau's code; one stand-in serves them all.
DISTRICTS = {
    "江岸区": "02",
    "江汉区": "03",
    "硚口区": "04",
    "汉阳区": "05",
    "武昌区": "06",
    "青山区": "07",
    "洪山区": "11",
    "东湖新技术开发区": "91",
}
#: Windows in which quarterly filers file; in the other eight no return is due.
QUARTERLY_WINDOWS = frozenset({1, 4, 7, 10})

_TABLE = Path(__file__).with_name("clients.csv")
_STRANGER = 9999  # the taxpayer whose disk stands in another's slot
_EARLY_DAY = 5


class Case(enum.StrEnum):
    """A situation of the table (情形)."""

    NORMAL = "正常"
    ABSENT = "未插盘"
    FOREIGN = "他人税盘"
    WRONG_PIN = "口令错误"
    LOCKED_PIN = "口令锁死"
    NOT_FILED = "未申报"
    ELSEWHERE = "厂商已清卡"
    NO_DISK = "无盘"
    BEHIND = "落后一个月"
    PAST_ALLOWED = "过期准清"
    PAST_REFUSED = "过期拒清"
    TRAINING = "测试盘"
    CLEAR_TIMEOUT = "清卡超时"
    REPORT_TIMEOUT = "上传超时"


_TIMEOUTS = {Case.CLEAR_TIMEOUT: "QLJS", Case.REPORT_TIMEOUT: "WLCB"}


@dataclass(frozen=True, slots=True)
class Client:
    """A company with one disk, or one more disk of it; words as in the sheet.

    ``pin``: the card's at the start, of the other kinds the device password; ``sheet_pin``: what
    the agency's sheet says it is. ``certificate``: the certificate password, where there is one.
    """

    number: int
    short_name: str
    name: str
    tax_id: str
    taxpayer_kind: str
    frequency: str
    bureau_code: str
    bureau_name: str
    policy: str
    accountant: str
    contact: str
    phone: str
    terminal_no: int
    device_no: str
    pin: str
    sheet_pin: str
    case: Case = Case.NORMAL
    device_type: str = "税控IC卡"
    certificate: str = ""

    @property
    def kind(self) -> str:
        return KINDS.get(self.device_type, IC_CARD)

    @property
    def units(self) -> tuple[str, ...]:
        return units_of(self.kind, self.number)

    @property
    def has_disk(self) -> bool:
        return self.case is not Case.NO_DISK


def bureau_code(district: str) -> str:
    return f"14201{DISTRICTS[district]}0000"


def bureau_name(district: str) -> str:
    return f"国家税务总局武汉市{district}税务局(模拟)"


def fictional_tax_id(number: int) -> str:
    """A unified social credit code with a right check digit; XG stands for 虚构."""
    body = f"91420100XG{number:07d}"
    return body + str(uscc.calc_check_digit(body))


def fictional_pin(number: int) -> str:
    return f"{(number * 7_654_321 + 1_234_567) % 10**8:08d}"


def clients() -> list[Client]:
    """The rows of the table, in its order."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    companies: dict[str, int] = {}
    found = []
    for number, row in enumerate(rows, 1):
        company = companies.setdefault(row["企业名称"], len(companies) + 1)
        pin, case = fictional_pin(number), Case(row["情形"])
        kind = KINDS.get(row["设备类型"], IC_CARD)
        found.append(
            Client(
                number=number,
                short_name=row["客户简称"],
                name=row["企业名称"],
                tax_id=fictional_tax_id(company),
                taxpayer_kind=row["纳税人类型"],
                frequency=row["申报周期"],
                bureau_code=bureau_code(row["主管税务机关"]),
                bureau_name=bureau_name(row["主管税务机关"]),
                policy=row["清卡时机"],
                accountant=row["记账会计"],
                contact=row["联系人"],
                phone=f"027-0000{company:04d}",  # no number of Wuhan begins with a 0
                terminal_no=int(row["开票机号"] or 0),
                device_no=fictional_device_no(number, kind),
                pin=pin,
                sheet_pin=fictional_pin(number + 1000) if case is Case.WRONG_PIN else pin,
                case=case,
                device_type=row["设备类型"],
                certificate="" if kind == IC_CARD else fictional_pin(number + 2000),
            )
        )
    return found


def on_cards(rows: Iterable[Client]) -> list[Client]:
    """The same clients with nothing but IC cards: a card reader knows no other kind."""
    return [
        row
        if row.kind == IC_CARD
        else replace(
            row,
            device_type="税控IC卡",
            device_no=fictional_device_no(row.number),
            certificate="",
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Calendar:
    """The months around one window: ``period`` is reported in it, ``before`` was in the last."""

    window: Month

    @property
    def period(self) -> Month:
        return self.window.plus(-1)

    @property
    def before(self) -> Month:
        return self.window.plus(-2)

    def deadline(self, months: int = 0) -> dt.date:
        """The filing deadline of the window ``months`` later. A year that the calendar does not
        know yet has the bureau's own fallback."""
        return next_deadline(self.window.plus(months - 2))[0]


def build(window: Month, rows: Iterable[Client]) -> tuple[World, Expected]:
    """The world at the start of the demo, in the month ``window``, and what must come of it."""
    calendar = Calendar(window)
    world = World(secrets.token_hex(16), STAGE_MS, BUREAU_MS, UKEY_LAG_MS)
    expected = Expected(str(window), str(calendar.period))
    known: set[str] = set()
    for client in rows:
        if client.tax_id not in known:
            known.add(client.tax_id)
            world.taxpayers.append(_taxpayer(client, calendar))
        if not client.has_disk:
            expected.diskless.append(client.tax_id)
            continue
        world.disks.append(_disk(client, calendar))
        expected.disks.append(expectation(client, calendar))
    return world, expected


def _taxpayer(client: Client, calendar: Calendar) -> WorldTaxpayer:
    due = client.frequency == "按月" or calendar.window.month in QUARTERLY_WINDOWS
    last_due = client.frequency == "按月" or calendar.period.month in QUARTERLY_WINDOWS
    now = "not_filed" if client.case is Case.NOT_FILED else "filed" if due else "not_due"
    faults: list[dict[str, Any]] = []
    if client.case in _TIMEOUTS:
        faults = [{"op": _TIMEOUTS[client.case], "mode": "timeout", "times": 1}]
    return WorldTaxpayer(
        tax_id=client.tax_id,
        name=client.name,
        bureau_code=client.bureau_code,
        bureau_name=client.bureau_name,
        filings={
            str(calendar.before): "filed" if last_due else "not_due",
            str(calendar.period): now,
        },
        past_deadline="refuse" if client.case is Case.PAST_REFUSED else "allow",
        faults=faults,
    )


def _disk(client: Client, calendar: Calendar) -> WorldDisk:
    """The disk before anything happens: the last month cleared, its deadline in this window."""
    cleared, deadline = calendar.before.last, calendar.deadline()
    match client.case:
        case Case.ELSEWHERE:
            cleared, deadline = calendar.period.last, calendar.deadline(1)
        case Case.BEHIND:  # last month went by: locked since, and the bureau lets it go on
            cleared, deadline = calendar.before.plus(-1).last, calendar.deadline(-1)
        case Case.PAST_ALLOWED | Case.PAST_REFUSED:  # the bureau had set an early deadline
            deadline = calendar.window.first.replace(day=_EARLY_DAY)
    foreign = client.case is Case.FOREIGN
    machine = client.number % len(MACHINES)
    slot = f"{'AB'[machine]}-{(client.number + 1) // 2:02d}"
    invoices = [] if client.number % 9 == 0 else _invoices(client, cleared, calendar)
    return WorldDisk(
        device_no=client.device_no,
        tax_id=fictional_tax_id(_STRANGER) if foreign else client.tax_id,
        taxpayer_name="武汉虚构某某有限公司" if foreign else client.name,
        machine=MACHINES[machine],
        slot="" if client.case is Case.ABSENT else slot,
        pin=client.pin,
        issue_deadline=deadline.isoformat(),
        cleared_through=cleared.isoformat(),
        reported_through=cleared.isoformat(),
        terminal_no=client.terminal_no,
        tries=0 if client.case is Case.LOCKED_PIN else 3,
        training=client.case is Case.TRAINING,
        invoices=invoices,
        kind=client.kind,
        types=[WorldType(found, invoices=invoices) for found in types_in(client.units)],
        certificate_password=client.certificate,
    )


def _invoices(client: Client, cleared: dt.date, calendar: Calendar) -> list[dict[str, Any]]:
    """Some days of each open month; every ninth client has issued nothing."""
    found = []
    month = Month.of(cleared).plus(1)
    while month <= calendar.period:
        for day in (3, 11, 24):
            found.append(
                {
                    "date": month.first.replace(day=day).isoformat(),
                    "valid": 1 + client.number % 5,
                    "returned": int(day == 24 and client.number % 4 == 0),
                    "voided": 0,
                    "valid_fen": 100_00 * day + client.number,
                    "return_fen": 50_00 if day == 24 and client.number % 4 == 0 else 0,
                }
            )
        month = month.plus(1)
    return found


@dataclass(frozen=True, slots=True)
class _End:
    """How a case ends where it does not simply end well."""

    outcome: str = "done"
    reason: str = ""
    code: str = ""
    tries: int = 3
    tries_spent: int = 0
    reports: bool = False  # what is oldest is still reported


_ENDS: Mapping[Case, _End] = {
    Case.ABSENT: _End("waiting", reason="disk"),
    Case.FOREIGN: _End("failed", code="wrong_disk"),
    Case.WRONG_PIN: _End("failed", code="password_wrong", tries=2, tries_spent=1),
    Case.LOCKED_PIN: _End("failed", code="password_locked", tries=0),
    Case.NOT_FILED: _End("waiting", reason="filing", code="not_filed", reports=True),
    Case.PAST_REFUSED: _End("failed", code="past_deadline", reports=True),
    Case.TRAINING: _End("skipped", code="training_disk"),
    Case.ELSEWHERE: _End(),
}


def expectation(client: Client, calendar: Calendar) -> ExpectedDisk:
    """What must come of the client's disk, by the rules of the domain."""
    disk = _disk(client, calendar)
    months = [calendar.before, calendar.period] if client.case is Case.BEHIND else [calendar.period]
    end = _ENDS.get(client.case, _End(reports=True))
    goes_well = client.case not in _ENDS
    reports = (months if goes_well else months[:1]) if end.reports else []
    elsewhere = client.case is Case.ELSEWHERE
    return ExpectedDisk(
        device_no=client.device_no,
        tax_id=client.tax_id,
        company=client.short_name,
        case=client.case.value,
        outcome=end.outcome,
        reason=end.reason,
        code=end.code,
        reports=[str(month) for month in reports],
        clears=[str(month) for month in months] if goes_well else [],
        issue_deadline=calendar.deadline(1).isoformat() if goes_well else disk.issue_deadline,
        reported_through=reports[-1].last.isoformat() if reports else disk.reported_through,
        cleared_through=months[-1].last.isoformat() if goes_well else disk.cleared_through,
        tries=end.tries,
        tries_spent=end.tries_spent,
        cleared_by="elsewhere" if elsewhere else "us" if goes_well else "",
        kind=client.kind,
        units=list(client.units),
    )
