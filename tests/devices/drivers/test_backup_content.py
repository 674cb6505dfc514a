"""A backup read back tells what the disk told, by the same driver."""

from __future__ import annotations

import json

import pytest

from devices.drivers.backup_content import read_backup
from devices.drivers.dates import Kind
from devices.protocol.failures import Failure
from tests.devices.cards import IN_WINDOW, bench
from tests.devices.components import KINDS, TAX_ID, component_bench


def test_a_cards_backup_gives_the_control_data_the_card_gave() -> None:
    card = bench().disk

    found = read_backup(card.export(), made_at=IN_WINDOW)

    assert found.controls == card.read_control()
    assert found.device_no == card.identify().device_no
    assert found.taxpayer_name == "广州测试商贸有限公司"
    assert [entry.name for entry in found.files] == ["EF01", "EF02", "EF03", "EF04", "EF05"]
    assert found.statistics["025"]["valid_count"] == 5
    assert found.statistics["025"]["valid_fen"] == 1500_50


@pytest.mark.parametrize("kind", KINDS)
def test_a_components_backup_gives_the_control_data_the_disk_gave(kind: Kind) -> None:
    disk = component_bench(kind).disk
    disk.identify()
    content = disk.export()

    found = read_backup(content, made_at=IN_WINDOW)

    assert found.controls == disk.read_control()
    assert found.tax_id == TAX_ID
    assert set(found.statistics) == set(found.controls)


def test_a_changed_file_of_a_card_is_refused_or_shown_never_guessed() -> None:
    kept = json.loads(bench().disk.export())
    for name, value in (("EF01", "00"), ("EF02", "ff" * 103), ("EF03", ["zz"])):
        broken = {**kept, "files": {**kept["files"], name: value}}
        with pytest.raises(Failure):
            read_backup(json.dumps(broken).encode(), made_at=IN_WINDOW)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"kind":"ic_card","device_no":"1"}'])
def test_what_no_driver_exported_is_no_backup(content: bytes) -> None:
    with pytest.raises(Failure):
        read_backup(content, made_at=IN_WINDOW)
