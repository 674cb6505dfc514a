"""What is attached to this machine, as its configuration says: handed to every process that opens
a disk.

Owns the shape only: readers and racks, vendor components, and groups of slots of which one is
active at a time. Holds no secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clearing.worker.pcsc_readers import PcscSlots


@dataclass(frozen=True, slots=True)
class Component:
    """A slot behind a vendor's component. ``device_no`` picks one disk where several share the
    address; a component with a single disk needs none. ``operate_net``: the bureau is reached
    through the component as well, under the certificate inside the disk."""

    slot: str
    kind: str
    address: str
    device_no: str = ""
    operate_net: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Slots of which one is active at a time. ``activate``: the command that makes ``{slot}`` the
    active one. ``reader``: where the active disk then appears; empty where each slot has a reader
    of its own, which comes and goes with its power."""

    name: str
    slots: tuple[str, ...]
    activate: tuple[str, ...]
    reader: str = ""

    def command(self, slot: str) -> list[str]:
        return filled(self.activate, slot)


@dataclass(frozen=True, slots=True)
class Hardware:
    """Everything this machine's disks are plugged into."""

    rack_socket: Path | None = None
    components: tuple[Component, ...] = ()
    groups: tuple[Group, ...] = ()
    pcsc: PcscSlots | None = None

    def group_of(self, slot: str) -> Group | None:
        return next((group for group in self.groups if slot in group.slots), None)

    def reader_of(self, slot: str) -> str:
        """The name under which the disk of ``slot`` is opened."""
        group = self.group_of(slot)
        return group.reader if group is not None and group.reader else slot

    def component_of(self, slot: str) -> Component | None:
        reader = self.reader_of(slot)
        return next((each for each in self.components if each.slot == reader), None)

    def blind_slots(self) -> tuple[str, ...]:
        """Slots whose disk no look at the readers can see: it has to be asked now and then."""
        shared = {group.reader for group in self.groups}
        grouped = [slot for group in self.groups for slot in group.slots]
        alone = [each.slot for each in self.components if each.slot not in shared]
        return tuple(dict.fromkeys([*grouped, *alone]))

    def hidden_readers(self) -> frozenset[str]:
        """Readers that are no slots themselves: a group's active disk appears there."""
        return frozenset(group.reader for group in self.groups if group.reader)

    def parties(self, slots: Sequence[str]) -> list[list[str]]:
        """``slots`` in parties, each of which one process can ask."""
        if self.pcsc is None:
            return [list(slots)] if slots else []
        readers = {self.reader_of(slot) for slot in slots}
        return [
            [slot for slot in slots if self.reader_of(slot) in party]
            for party in self.pcsc.groups(sorted(readers))
        ]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "rack_socket": self.rack_socket and str(self.rack_socket),
            "pcsc": self.pcsc and self.pcsc.to_json(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Hardware:
        return cls(
            rack_socket=Path(raw["rack_socket"]) if raw["rack_socket"] else None,
            components=tuple(Component(**each) for each in raw["components"]),
            groups=tuple(
                Group(**each | {name: tuple(each[name]) for name in ("slots", "activate")})
                for each in raw["groups"]
            ),
            pcsc=PcscSlots.from_json(raw["pcsc"]) if raw["pcsc"] else None,
        )


def filled(command: tuple[str, ...], slot: str) -> list[str]:
    """A configured command for one slot; nothing else in it means anything."""
    return [word.replace("{slot}", slot) for word in command]
