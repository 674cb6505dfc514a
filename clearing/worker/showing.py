"""``list`` and ``read``: who is in the slots, and what one disk says.

Everything goes through the probe process, which can be ended, sends no password and changes
nothing; a disk in a run is left to it. Works beside a running worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clearing.worker.cli import Refusal
from clearing.worker.config import MachineConfig
from clearing.worker.places import Places
from clearing.worker.prober import probe_slots
from clearing.worker.readers import readers_of
from clearing.worker.rungs import PROBLEM_LABELS
from clearing.worker.words import Words, padded, width_of
from devices.protocol.catalogue import CATALOGUE
from devices.protocol.failures import Code, Failure
from devices.protocol.texts import N_

Found = dict[str, Any]

IN_USE = "in_use"

KINDS = {
    "ic_card": N_("税控 IC 卡"),
    "baiwang": N_("税控盘"),
    "aisino": N_("金税盘"),
    "ukey": N_("税务UKey"),
}
SLOT, TYPE, DEVICE_NO = N_("盘位"), N_("票种"), N_("设备编号")
_HEADS = (SLOT, DEVICE_NO, N_("税号"), N_("种类"), N_("分机号"), N_("情况"))
_CONTROL = {
    "issue_deadline": N_("开票截止日期"),
    "period_start": N_("属期起"),
    "period_end": N_("属期止"),
    "last_reported_on": N_("上次抄报日期"),
    "device_clock": N_("税盘时钟"),
    "pending_uploads": N_("未上传发票"),
}


def look_round(config: MachineConfig, words: Words) -> dict[str, Found]:
    """Every slot this worker is for, and who is in it. Raises Refusal when no reader answers."""
    readers = readers_of(config.hardware)
    try:
        seen = readers.look()
    except Failure as failure:
        raise Refusal(words(CATALOGUE[failure.code].title)) from None
    finally:
        readers.close()
    slots = sorted(slot for slot in seen if config.takes(slot))
    taken = [slot for slot in slots if seen[slot]]
    asked = probe_slots(config, taken, Places(config.data_dir)) if taken else {}
    return {
        slot: asked.get(slot, {"problem": IN_USE} if seen[slot] else {"problem": ""})
        for slot in slots
    }


def read_slot(config: MachineConfig, slot: str, words: Words) -> Found:
    """What the disk in a slot says. Raises Refusal for a slot this worker has not."""
    if not config.takes(slot):
        raise Refusal(words(N_("这台读盘机不管理盘位 {slot}"), slot=slot))
    found = probe_slots(config, [slot], Places(config.data_dir), control=True)
    return found.get(slot, {"problem": IN_USE})


def said_of(problem: str, words: Words) -> str:
    """The text of a slot's problem; one of a newer version as it is."""
    if problem == IN_USE:
        return words(N_("正在办理或被占用"))
    if problem in PROBLEM_LABELS:
        return words(PROBLEM_LABELS[problem])
    try:
        return words(CATALOGUE[Code(problem)].title) if problem else ""
    except ValueError:
        return problem


def kind_name(kind: str, words: Words) -> str:
    """The name of a kind; one of a newer version as it is."""
    return words(KINDS[kind]) if kind in KINDS else kind


def list_text(found: Mapping[str, Found], words: Words) -> str:
    rows = [[words(head) for head in _HEADS]]
    for slot, disk in found.items():
        terminal = disk.get("terminal_no")
        rows.append(
            [
                slot,
                disk.get("device_no", ""),
                disk.get("tax_id", ""),
                kind_name(disk.get("kind", ""), words),
                "" if terminal is None else str(terminal),
                said_of(disk["problem"], words) or ("" if disk.get("device_no") else "–"),
            ]
        )
    return _table(rows)


def read_text(slot: str, found: Found, words: Words) -> str:
    lines = [f"{words(SLOT)} {slot}"]
    if found["problem"]:
        return "\n".join([*lines, said_of(found["problem"], words), *_advice(found, words)])
    terminal = found["terminal_no"]
    lines += _pairs(
        [
            (N_("种类"), kind_name(found["kind"], words)),
            (DEVICE_NO, found["device_no"]),
            (N_("税号"), found["tax_id"] or words(N_("(须口令才能读出)"))),
            (N_("名称"), found["name"]),
            (N_("分机号"), "" if terminal is None else str(terminal)),
            (N_("测试盘"), words(N_("是")) if found["training"] else ""),
            (N_("已注销"), words(N_("是")) if found["retired"] else ""),
        ],
        words,
    )
    if found["unread"] == Code.PASSWORD_MISSING:
        lines.append(
            words(N_("这一类税盘须口令才能读出监控数据; 本命令不发送口令, 请在网页上读盘。"))
        )
    elif found["unread"]:
        lines.append(said_of(found["unread"], words))
    for kind, control in found["types"].items():
        lines += ["", f"{words(TYPE)} {kind}"]
        values = [(label, _said(control[name])) for name, label in _CONTROL.items()]
        lines += _pairs(values, words)
    return "\n".join(lines)


def _advice(found: Found, words: Words) -> list[str]:
    try:
        entry = CATALOGUE[Code(found["problem"])]
    except ValueError:
        return []
    return [words(entry.next_step), words(entry.dont)]


def _pairs(pairs: Sequence[tuple[str, str]], words: Words) -> list[str]:
    said = [(words(label), value) for label, value in pairs if value]
    width = max((width_of(label) for label, _ in said), default=0)
    return [f"  {padded(label, width)}  {value}" for label, value in said]


def _said(value: Any) -> str:
    return "–" if value is None else str(value)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(width_of(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
