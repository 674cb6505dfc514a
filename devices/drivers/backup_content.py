"""What a backup says: the content that ``TaxDisk.export`` made, read by the very driver that reads
the disk.

Owns two stand-ins that answer from the backup alone: a card channel over the kept files and a
component over the kept answers. They know no command that changes a disk.

Must never: guess. What the driver cannot explain raises Failure(device_garbled).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devices.drivers.component import ComponentDisk
from devices.drivers.component_units import COMPONENT_KINDS
from devices.drivers.dates import Kind
from devices.drivers.ic_card import IcCardDisk
from devices.drivers.ic_card_totals import declaration_of, statistics_of
from devices.protocol import business_xml
from devices.protocol.apdu import SW, Command
from devices.protocol.business_answers import DeviceInfo, Statistics
from devices.protocol.business_xml import Answer, Operation
from devices.protocol.control import ControlData
from devices.protocol.failures import Code, Failure
from devices.protocol.iccard import FileId, Ins
from devices.protocol.iccard_layouts import ControlFile, DailyTotals

CARD_FORMAT = "qingka/ic_card/1"
_CARD_TYPE = "025"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """One part of a backup: a file of the card, or one question and its answer."""

    name: str
    records: int
    size: int


@dataclass(frozen=True, slots=True)
class BackupContent:
    """A backup in the terms of the field; ``statistics`` per invoice type, amounts in fen."""

    device_no: str
    tax_id: str
    taxpayer_name: str
    controls: Mapping[str, ControlData]
    statistics: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    files: tuple[KeptFile, ...] = ()


def read_backup(content: bytes, *, made_at: dt.datetime) -> BackupContent:
    """Read what a driver exported. ``made_at`` (Beijing time) is the clock of a card, which has
    none. Raises Failure(device_garbled)."""
    try:
        kept = json.loads(content)
        if kept.get("format") == CARD_FORMAT:
            return _card(kept, made_at)
        return _component(kept)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Failure(Code.DEVICE_GARBLED, detail=f"backup: {type(error).__name__}") from None


# --- IC card ------------------------------------------------------------------------------------


class _KeptCard:
    """A card channel over the files of a backup: SELECT and READ, nothing else."""

    def __init__(self, files: Mapping[str, str | list[str]]) -> None:
        self._files = files
        self._selected: str | list[str] = []

    def transmit(self, apdu: bytes) -> bytes:
        command = Command.decode(apdu)
        if command.ins == Ins.SELECT and command.p1 == 0x04:
            return _said(SW.OK)
        if command.ins == Ins.SELECT:
            self._selected = self._files[command.data.hex().upper()]
            return _said(SW.OK)
        if command.ins == Ins.READ_BINARY and isinstance(self._selected, str):
            return bytes.fromhex(self._selected) + _said(SW.OK)
        if command.ins == Ins.READ_RECORD and command.p1 <= len(self._selected):
            return bytes.fromhex(self._selected[command.p1 - 1]) + _said(SW.OK)
        return _said(SW.NO_RECORD)

    def close(self) -> None:
        """Nothing was opened."""


def _said(sw: SW) -> bytes:
    return int(sw).to_bytes(2, "big")


def _card(kept: Mapping[str, Any], made_at: dt.datetime) -> BackupContent:
    files: dict[str, str | list[str]] = kept["files"]
    disk = IcCardDisk(_KeptCard(files), pins=None, host_now=lambda: made_at)
    identity, controls = disk.identify(), disk.read_control()
    if identity.device_no != kept["device_no"]:
        raise Failure(Code.DEVICE_GARBLED, detail="EF02")
    daily = [DailyTotals.decode(bytes.fromhex(record)) for record in files[f"{FileId.DAILY:04X}"]]
    index = ControlFile.decode(bytes.fromhex(str(files[f"{FileId.CONTROL:04X}"]))).tax_index
    control = controls[_CARD_TYPE]
    duty = declaration_of(daily, control.period_start, control.period_end, index)
    return BackupContent(
        device_no=identity.device_no,
        tax_id=identity.tax_id,
        taxpayer_name=identity.taxpayer_name,
        controls=controls,
        statistics={_CARD_TYPE: statistics_of(duty)},
        files=tuple(_card_file(name, value) for name, value in sorted(files.items())),
    )


def _card_file(name: str, value: str | list[str]) -> KeptFile:
    records = [value] if isinstance(value, str) else value
    return KeptFile(name, len(records), sum(len(record) // 2 for record in records))


# --- components ---------------------------------------------------------------------------------


class _KeptComponent:
    """A component that repeats the answers of a backup."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self._kept = kept

    @property
    def address(self) -> str:
        return "backup"

    def operate(self, document: bytes, *, seconds: float) -> bytes:
        request = business_xml.parse_request(document)
        return business_xml.build_answer(
            Answer(request.operation, "0", "", self._fields(request.operation, request.fields))
        )

    def _fields(self, operation: Operation, asked: Mapping[str, str]) -> Mapping[str, str]:
        if operation is Operation.DEVICE_NO:
            return {"sksbbh": self._kept["device_no"]}
        if operation is Operation.INFO:
            told: Mapping[str, str] = self._kept["SKPXXCX"]
            return told
        answer: Mapping[str, str] = self._kept["types"][asked["fplxdm"]][operation.id]
        return answer

    def close(self) -> None:
        """Nothing was opened."""


def _component(kept: Mapping[str, Any]) -> BackupContent:
    kind, number = Kind(kept["kind"]), kept["device_no"]
    if kind not in COMPONENT_KINDS:
        raise ValueError(kind)
    transport = _KeptComponent(kept)
    # The stand-in asks for no password: any text passes, none is kept.
    disk = ComponentDisk(transport, kind=kind, device_no=number, password=lambda: "-")
    disk.identify()
    controls = disk.read_control()
    info = DeviceInfo.of(Answer(Operation.INFO, "0", "", kept["SKPXXCX"]))
    statistics, files = {}, [KeptFile("SKPXXCX", 1, _size(kept["SKPXXCX"]))]
    for found, answers in sorted(kept["types"].items()):
        told = answers["TJXXCX"]
        statistics[found] = _totals(Answer(Operation.STATISTICS, "0", "", {}, told["groups"]))
        files += [KeptFile(f"{name} {found}", 1, _size(answers[name])) for name in sorted(answers)]
    return BackupContent(
        device_no=info.device_no,
        tax_id=info.tax_id,
        taxpayer_name=info.name,
        controls=controls,
        statistics=statistics,
        files=tuple(files),
    )


def _totals(answer: Answer) -> dict[str, int]:
    found = Statistics.of(answer)
    return {
        "valid_count": found.valid_count,
        "return_count": found.return_count,
        "void_count": found.void_count,
        "valid_fen": found.valid_fen,
        "return_fen": found.return_fen,
    }


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())
