"""Where everything of one run of the stack lies, below one private folder."""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.private import socket_folder


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie below one run folder; only the owner may look into it."""

    root: Path

    @property
    def world(self) -> Path:
        return self.root / "world.json"

    @property
    def expected(self) -> Path:
        """What must come of the world."""
        return self.root / "expected.json"

    @property
    def disks(self) -> Path:
        """The simulated disks of all racks: a disk may be moved from one to another."""
        return self.root / "disks"

    @property
    def bureau(self) -> Path:
        return self.root / "bureau"

    @property
    def storage(self) -> Path:
        return self.root / "storage"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def sockets(self) -> Path:
        return socket_folder(self.root / "s")

    def machine_config(self, name: str) -> Path:
        return self.root / "machines" / f"{name}.toml"

    def rack_socket(self, name: str) -> Path:
        return self.sockets / f"rack-{zlib.crc32(name.encode()):08x}"

    def component_port(self, name: str) -> Path:
        """Where a machine's component writes its port."""
        return self.root / f"component-{name}.port"

    def readers(self, number: int) -> Path:
        """The card readers of the machine of this number."""
        return socket_folder(self.sockets / str(number), longest="0/run/pcscd.comm")

    def write_machine_config(
        self, name: str, *, server: str, token: str, broker: str, prefix: str, parallel: int
    ) -> None:
        """The configuration of a reader machine, which holds its token: readable by us alone."""
        path = self.machine_config(name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        values: dict[str, str | int] = {
            "name": name,
            "server": server,
            "token": token,
            "broker": broker,
            "prefix": prefix,
            "data_dir": str(path.with_suffix("")),
            "rack_socket": str(self.rack_socket(name)),
            "parallel": parallel,
            "stop_seconds": 3,
            # Everything is on this host; the storm gives it networks of its own.
            "plain_http": True,
        }
        write_private(path, _toml(values))

    def plug_machine(self, name: str, readers: Mapping[str, Any]) -> None:
        """Have a configured machine find its disks as ``readers`` says, not at its rack."""
        path = self.machine_config(name)
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        values.pop("rack_socket", None)
        write_private(path, _toml({**values, **readers}))

    def connect_machine(self, name: str, components: Sequence[Mapping[str, str | bool]]) -> None:
        """Have a configured machine find these disks, too, each behind a component."""
        path = self.machine_config(name)
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        values["components"] = list(components)
        if "only_slots" in values:
            slots = [component["slot"] for component in components]
            values["only_slots"] = list(dict.fromkeys([*values["only_slots"], *slots]))
        write_private(path, _toml(values))


def _toml(values: Mapping[str, Any]) -> str:
    """Lists of tables come last: whatever follows such a heading would belong to it."""
    plain = {key: value for key, value in values.items() if not _is_tables(value)}
    tables = {key: value for key, value in values.items() if _is_tables(value)}
    headed = (
        f"\n[[{key}]]\n{_lines(table)}" for key, several in tables.items() for table in several
    )
    return _lines(plain) + "".join(headed)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _lines(values: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_value(key)} = {_value(each)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}"
    # Without non-ASCII escapes, JSON's texts, numbers and lists of them are TOML's, too.
    return json.dumps(value, ensure_ascii=False)


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole; readable by its owner alone."""
    new = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
