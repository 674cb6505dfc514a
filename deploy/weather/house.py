"""The stack of a storm: server in the middle, every reader machine in a network of its own.

Owns which process runs where, and the ending and starting again of single ones.
"""

from __future__ import annotations

from pathlib import Path

from deploy.demonstration.child import Child
from deploy.stack import Stack
from deploy.weather.network import BROKER, BUREAU, SERVER, Network

WEB, SWEEPER, BUREAU_PROCESS = "web", "server-worker", "bureau"
_BROKER_PORT = 6379


class House(Stack):
    """``network``: None where there are no namespaces; then all is on one machine, by unix socket
    and loopback."""

    def __init__(
        self,
        root: Path,
        network: Network | None,
        *,
        machines: tuple[str, ...],
        readers: tuple[str, ...],
        limits_scale: float,
        clock_offset: float,
    ) -> None:
        super().__init__(
            root,
            machines=machines,
            limits_scale=limits_scale,
            clock_offset=clock_offset,
            pcsc=readers,
        )
        self.network = network
        if network is not None:
            self.host, self.bureau_host = SERVER, BUREAU
            self.valkey.listen = (BROKER, _BROKER_PORT)

    def environment(self, *, owner: bool = False) -> dict[str, str]:
        values = super().environment(owner=owner)
        if self.network is not None:
            values["QINGKA_MACHINE_BROKER_URL"] = f"redis://{BROKER}:{_BROKER_PORT}/0"
        return values

    def inside(self, name: str) -> list[str]:
        machine = name.removeprefix("component-")
        if self.network is None or machine not in self.machines:
            return []
        return self.network.inside(machine)

    def component_address(self, machine: str) -> str:
        """To be asked from the machine itself (:meth:`Network.visit`)."""
        port = self.places.component_port(machine).read_text(encoding="ascii").strip()
        return f"http://127.0.0.1:{port}"

    # -- single processes ------------------------------------------------------------------------

    def end(self, name: str) -> None:
        """Have a process end in good order."""
        child = self._children.pop(name)
        child.let_go()
        child.wait()

    def begin(self, name: str) -> None:
        """Start one that does not run."""
        known = {
            WEB: self._start_web,
            SWEEPER: self._start_server_worker,
            BUREAU_PROCESS: self._start_bureau,
        }
        if name in known:
            known[name]()
        else:
            self.start_machine(name)

    def begin_again_what_ended(self) -> list[str]:
        """As systemd would: whatever ended by itself; the names. Racks are no part of our software:
        the end of one is an error of the storm (StackError)."""
        again = []
        for child in self.ended():
            if not self._restartable(child):
                self.check()
            self._children.pop(child.name).wait()
            self.begin(child.name)
            again.append(child.name)
        return again

    def _restartable(self, child: Child) -> bool:
        return child.name in {WEB, SWEEPER, *self.machines}
