"""The accidents of a storm are a function of its seed."""

from __future__ import annotations

from deploy.weather.scene import set_scene
from deploy.weather.schedule import CUTS, Accident, Kind, Playable, draw
from devices.protocol.month import Month

WINDOW = Month(2026, 11)


def playable(seed: int, *, network: bool = True, pcsc: bool = True) -> Playable:
    return set_scene(seed, 200, WINDOW, pcsc=pcsc).playable(network=network)


def accidents(
    seed: int, *, seconds: float = 300, network: bool = True, pcsc: bool = True
) -> list[Accident]:
    return draw(seed, seconds, playable(seed, network=network, pcsc=pcsc))


def test_the_same_seed_draws_the_same_storm_and_another_seed_another_one() -> None:
    assert accidents(7) == accidents(7)
    assert accidents(7) != accidents(8)


def test_a_long_storm_has_every_kind_of_accident_and_all_are_over_at_its_end() -> None:
    drawn = accidents(7, seconds=900)
    assert {accident.kind for accident in drawn} == set(Kind)
    assert all(accident.at + accident.lasts <= 900.1 for accident in drawn)
    assert [accident.at for accident in drawn] == sorted(accident.at for accident in drawn)


def test_what_cannot_be_played_here_is_not_drawn() -> None:
    kinds = {accident.kind for accident in accidents(7, seconds=900, network=False, pcsc=False)}
    assert kinds == set(Kind) - CUTS - {Kind.PCSCD_KILLED}


def test_nothing_is_struck_again_before_it_is_mended() -> None:
    free: dict[str, float] = {}
    for accident in accidents(9):
        cut = accident.kind in CUTS
        for name in (" ".join(accident.target),) if cut else accident.target:
            assert accident.at >= free.get(name, 0.0), accident
            free[name] = accident.at + accident.lasts


def test_every_disk_has_a_slot_of_its_own_and_half_of_the_machines_a_pcscd() -> None:
    scene = set_scene(3, 200, WINDOW, pcsc=True)
    slots = [(disk.machine, disk.slot) for disk in scene.world.disks if disk.slot]
    assert len(slots) == len(set(slots))
    assert len({disk.device_no for disk in scene.world.disks}) == 200
    assert len(scene.machines) == 5
    assert scene.readers == scene.machines[::2]
