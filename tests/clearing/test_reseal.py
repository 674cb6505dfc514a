"""Rotation of keys: everything moves to the new key, the old one can go, and a check says so."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command

from agency.models import Agency
from agency.scope import agency_scope
from agency.sealing import KeyRing, SealError, key_of
from clearing.models import Backup, Evidence
from clearing.services.backups import look
from clearing.services.packages import held_packages
from devices.models import TaxDisk
from devices.services import disk_passwords
from tests.clearing.conftest import StartBatch
from tests.clearing.kept import kept
from tests.clearing.machine import PlayedMachine
from tests.conftest import MakeCompany, MakeDisk, Person

Again = Callable[[TaxDisk], TaxDisk]

pytestmark = pytest.mark.usefixtures("storage")


@pytest.fixture(autouse=True)
def this_agency_alone(monkeypatch: pytest.MonkeyPatch, agency: Agency) -> None:
    """What other tests have left behind may be sealed as it likes."""
    monkeypatch.setattr("agency.resealing.every_agency", lambda: [agency.pk])


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``rings("new,old")``: the server's ring from now on; "old" is the tests' own."""
    import os

    keys = {"old": os.environ["QINGKA_SEAL_KEYS"], "new": KeyRing.generate("new")}

    def use(names: str) -> None:
        ring = ",".join(keys[name] for name in names.split(","))
        monkeypatch.setenv("QINGKA_SEAL_KEYS", ring)

    return use


def reseal(*, check: bool = False) -> tuple[str, bool]:
    out = StringIO()
    try:
        call_command("reseal", check=check, stdout=out)
    except CommandError as error:
        return out.getvalue() + str(error), False
    return out.getvalue(), True


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company(), device_password="MARK-PIN")


def test_a_rotation_moves_everything_and_the_old_key_can_go(
    agency: Agency,
    disk: TaxDisk,
    machine: PlayedMachine,
    start: StartBatch,
    rings: Callable[[str], None],
    again: Again,
) -> None:
    start(disk)
    machine.present(disk)
    machine.claim()
    machine.on_run("record", machine.packaged())
    backup = kept(disk, b"the disk")
    old_file = backup.storage_name

    rings("new,old")
    said, well = reseal(check=True)
    assert not well
    assert "旧密钥不能删除" in said
    assert reseal()[1]

    rings("new")
    said, well = reseal(check=True)
    assert well, said
    assert "可以删除" in said
    assert not default_storage.exists(old_file)
    with agency_scope(agency.pk):
        assert disk_passwords(again(disk))[0] == "MARK-PIN"
        found = Backup.objects.get(pk=backup.pk)
        assert look(found, disk).content == b"the disk"
        assert Evidence.objects.filter(sealed__isnull=False).exists()
        assert held_packages(disk)


def test_second_factors_move_too(
    agency: Agency, disk: TaxDisk, supervisor: Person, rings: Callable[[str], None]
) -> None:
    adapter = get_adapter()
    row = Authenticator.objects.create(
        user=supervisor.user,
        type=Authenticator.Type.TOTP,
        data={"secret": adapter.encrypt("TOTP-SECRET"), "other": "words", "n": 3},
    )
    rings("new,old")
    assert not reseal(check=True)[1]
    assert reseal()[1]
    rings("new")
    assert reseal(check=True)[1]
    row.refresh_from_db()
    assert adapter.decrypt(row.data["secret"]) == "TOTP-SECRET"
    assert (row.data["other"], row.data["n"]) == ("words", 3)


def test_a_second_rotation_finds_nothing_to_do(disk: TaxDisk, rings: Callable[[str], None]) -> None:
    rings("new,old")
    reseal()
    assert "重新封存 0 处" in reseal()[0]


def test_what_does_not_open_stops_it_and_is_named_and_the_rest_goes_on_later(
    agency: Agency, disk: TaxDisk, make_disk: MakeDisk, rings: Callable[[str], None]
) -> None:
    broken = make_disk(disk.company, terminal_no=1)
    with agency_scope(agency.pk):
        whole = TaxDisk.objects.get(pk=broken.pk).device_password
        TaxDisk.objects.filter(pk=broken.pk).update(device_password=bytes(whole or b"")[:-1] + b"?")
    rings("new,old")

    said, well = reseal()

    assert not well
    assert f"devices.TaxDisk.device_password {broken.pk}" in said
    with agency_scope(agency.pk):
        TaxDisk.objects.filter(pk=broken.pk).update(device_password=whole)
    assert reseal()[1]


def test_one_file_for_two_backups_serves_both_afterwards(
    agency: Agency, disk: TaxDisk, rings: Callable[[str], None]
) -> None:
    first = kept(disk, b"same")
    with agency_scope(agency.pk):
        second = Backup.objects.get(pk=first.pk)
        second.pk = None
        second.run = first.run
        other = first.attempt
        other.pk, other.ordinal = None, 9
        import uuid

        other.key = uuid.uuid4()
        other.save()
        second.attempt = other
        second.save()
    rings("new,old")
    assert reseal()[1]
    rings("new")
    with agency_scope(agency.pk):
        for backup in Backup.objects.filter(disk_period__disk=disk):
            assert look(backup, disk).content == b"same"


def test_the_ring_may_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agency.sealing import newest_key, seal

    path = tmp_path / "keys"
    path.write_text(KeyRing.generate("of-file") + "\n")
    monkeypatch.setenv("QINGKA_SEAL_KEYS_FILE", str(path))
    with pytest.raises(SealError, match="只能设置一个"):
        seal("x", context="c")
    monkeypatch.delenv("QINGKA_SEAL_KEYS")
    assert newest_key() == key_of(seal("x", context="c")) == "of-file"
    path.unlink()
    with pytest.raises(SealError, match="读不出"):
        seal("x", context="c")
