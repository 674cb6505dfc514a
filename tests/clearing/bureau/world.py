"""A small world for the stand-in's tests: two taxpayers, three disks. All numbers are invented."""

from __future__ import annotations

import datetime as dt
from typing import Any

from clearing.bureau.port import DiskAddress
from clearing.bureau.standin.service import BEIJING
from devices.drivers.contract import ReportPackage, Unit
from devices.protocol.iccard import DeclareDuty
from devices.protocol.iccard_layouts import Totals
from devices.protocol.month import Month
from devices.simulator import crypto
from devices.simulator.world import World, WorldDisk, WorldTaxpayer

ALICE = "91420106MA05AMP1XY"
BOB = "91420106MA05AMP2QT"

ALICES = DiskAddress("A1B2C3D4E5F60718", ALICE, 0)
ALICES_SECOND = DiskAddress("A1B2C3D4E5F60719", ALICE, 1)
BOBS = DiskAddress("0102030405060708", BOB, 0)

JANUARY, FEBRUARY, MARCH = Month(2026, 1), Month(2026, 2), Month(2026, 3)
ROLLS = Unit(("025",))

KEY = "00112233445566778899AABBCCDDEEFF"

IN_THE_WINDOW = dt.datetime(2026, 3, 10, 9, 30, tzinfo=BEIJING)


def make_world(**alice: Any) -> World:
    """Everybody is cleared through January, has filed February, and may issue until 16 March."""
    return World(
        key=KEY,
        taxpayers=[
            WorldTaxpayer(
                ALICE, "甲公司", "14201060000", "某区税务局", {"2026-02": "filed"}, **alice
            ),
            WorldTaxpayer(BOB, "乙公司", "14201060000", "某区税务局", {"2026-02": "filed"}),
        ],
        disks=[
            WorldDisk(
                device_no=address.device_no,
                tax_id=address.tax_id,
                taxpayer_name="",
                machine="H1",
                slot=f"A-{number:02d}",
                pin="12345678",
                issue_deadline="2026-03-16",
                cleared_through="2026-01-31",
                reported_through="2026-01-31",
                terminal_no=address.terminal_no,
            )
            for number, address in enumerate((ALICES, ALICES_SECOND, BOBS), 1)
        ],
    )


def declared(
    disk: DiskAddress, period: Month, *, invoices: int = 0, signed_by: str = ""
) -> ReportPackage:
    """What an IC card hands out for ``period``; ``signed_by``: another card's number, a forgery."""
    duty = DeclareDuty(period.first, period.last, invoices, 0, 0, Totals())
    answer = crypto.sign_declaration(
        bytes.fromhex(KEY), signed_by or disk.device_no, duty, total_valid=0, total_return=0
    )
    fields = {
        "sq": f"{period.first:%Y%m%d}000000{period.last:%Y%m%d}235959",
        "fphz": duty.encode().hex(),
        "qtxx": answer.encode().hex(),
    }
    return ReportPackage(ROLLS, period, fields)
