"""How a simulated component disk writes what it knows (模拟): fields, dates and amounts.

Owns the way back through ``devices/drivers/dates.py``: the raw dates of each kind, off by its own
days, in 8 or 14 digits. Kinds differ in length unless a quirk says otherwise: Baiwang 8, the
others 14.

Must never: change a state.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence

from devices.drivers.dates import OFFSETS, Kind
from devices.protocol.month import Month
from devices.simulator import component_clear, crypto
from devices.simulator.component_state import ComponentState, Quirk, TypeState, total

_SINGLE_FEN, _TOTAL_FEN, _RETURN_FEN = 10_000_000, 1_000_000_000, 100_000_000


def info(state: ComponentState, clock: dt.datetime) -> dict[str, str]:
    """SKPXXCX."""
    return {
        "sksbbh": state.device_no,
        "nsrsbh": state.tax_id,
        "nsrmc": state.name,
        "swjgdm": "14201000000",
        "swjgmc": "模拟税务局",
        "fplxdm": "".join(state.types),
        "dqsz": f"{clock:%Y%m%d%H%M%S}",
        "qysj": "20200101000000",
        "bbh": "simulated",
        "kpjh": str(state.terminal_no),
        "qylx": "",
        "qtkzxx": "",
    }


def control(state: ComponentState, invoice_type: str, reported_through: dt.date) -> dict[str, str]:
    """JKSJCX. ``reported_through``: the last reported day as the disk shows it."""
    kind, found = Kind(state.kind), state.types[invoice_type]
    offsets = OFFSETS[kind]
    period = found.open_period
    reported_on = reported_through + dt.timedelta(days=1)
    return {
        "fplxdm": invoice_type,
        "kpjzsj": _raw(state, found.issue_deadline, offsets.issue_deadline, "235959"),
        "bsqsrq": _raw(state, period.first, offsets.period_start),
        "bszzrq": _raw(state, period.last, offsets.period_end),
        "zxbsrq": _raw(state, reported_on, offsets.last_reported_on),
        "dzkpxe": yuan(_SINGLE_FEN),
        "zsljxe": yuan(_TOTAL_FEN),
        "fsljxe": yuan(_RETURN_FEN),
        "syrl": "50000",
        "scjzrq": _raw(state, found.issue_deadline, offsets.issue_deadline),
        "lxkpsc": str(state.offline_hours),
        "lxkpzs": str(state.offline_count),
        "lxzsljje": yuan(state.offline_fen),
    }


def pending(found: TypeState, clock: dt.datetime) -> dict[str, str]:
    """HQLXSJ."""
    since = f"{clock:%Y%m%d}000000" if found.pending else ""
    return {
        "wscfpzs": str(found.pending),
        "wscfpsj": since,
        "wscfpljje": yuan(found.pending_fen),
    }


def statistics(found: TypeState, first: dt.date, last: dt.date) -> dict[str, str]:
    """One group of TJXXCX. The stock of blank invoices is invented."""
    days = found.within(first, last)
    used = sum(total(days, name) for name in ("valid", "returned", "voided"))
    return {
        "qckcfs": str(1000 + used),
        "lgfpfs": "0",
        "zsfpfs": str(total(days, "valid")),
        "zffpfs": str(total(days, "voided")),
        "fsfpfs": str(total(days, "returned")),
        "qmkcfs": "1000",
        "zsfpljje": yuan(total(days, "valid_fen")),
        "zsfpljse": yuan(total(days, "valid_tax_fen")),
        "fsfpljje": yuan(-total(days, "return_fen")),
        "fsfpljse": yuan(-total(days, "return_tax_fen")),
    }


def summary(
    state: ComponentState, types: Sequence[str], period: Month, master_key: bytes
) -> dict[str, str]:
    """SJCB: the closed period, the same at every asking, signed under the disk's own key."""
    offsets = OFFSETS[Kind(state.kind)]
    end = period.last - dt.timedelta(days=offsets.period_end)
    content = {found: statistics(state.types[found], period.first, period.last) for found in types}
    message = json.dumps(
        {"period": str(period), "types": content}, sort_keys=True, separators=(",", ":")
    ).encode()
    signature = crypto.sign(master_key, component_clear.card_number(state.device_no), message)
    return {
        "sq": f"{period.first:%Y%m%d}000000{end:%Y%m%d}235959",
        "fpmx": "",
        "fpdxx": "",
        "fphz": message.hex().upper(),
        "szfphz": signature.hex().upper(),
        "qtxx": "",
    }


def yuan(fen: int) -> str:
    """An amount as vendors write it: two decimals."""
    sign = "-" if fen < 0 else ""
    return f"{sign}{abs(fen) // 100}.{abs(fen) % 100:02d}"


def _raw(state: ComponentState, meant: dt.date, offset: int, time: str = "000000") -> str:
    """The date as the kind writes it: ``meant`` less the days that the driver will add."""
    raw = f"{meant - dt.timedelta(days=offset):%Y%m%d}"
    short = state.kind == Kind.BAIWANG or Quirk.SHORT_DATES in state.quirks
    return raw if short and Quirk.LONG_DATES not in state.quirks else raw + time
