"""Backups: verified on every read; missing, damaged, swapped and foreign files are told apart."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command

from agency.clock import real_now
from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from agency.sealing import KeyRing, seal
from clearing.choices import BackupProblem
from clearing.models import Backup
from clearing.services.backup_check import check_agency
from clearing.services.backups import context_of, keep_backup, look
from devices.models import TaxDisk
from devices.protocol.failures import Code, Failure
from tests.clearing.kept import kept
from tests.conftest import MakeCompany, MakeDisk

Again = Callable[[Backup], Backup]

pytestmark = pytest.mark.usefixtures("storage")


def path_of(backup: Backup) -> Path:
    return Path(default_storage.path(backup.storage_name))


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company())


def problem_of(backup: Backup, disk: TaxDisk) -> BackupProblem | None:
    with agency_scope(disk.agency_id):
        return look(backup, disk).problem


def test_what_lies_on_the_disk_is_sealed_and_named_by_its_content(disk: TaxDisk) -> None:
    backup = kept(disk, b'{"marker":"PLAIN-CONTENT"}')

    assert b"PLAIN-CONTENT" not in path_of(backup).read_bytes()
    assert backup.sha256 in backup.storage_name
    with agency_scope(disk.agency_id):
        assert look(backup, disk).content == b'{"marker":"PLAIN-CONTENT"}'


def test_a_missing_file_is_missing(disk: TaxDisk) -> None:
    backup = kept(disk)
    path_of(backup).unlink()
    assert problem_of(backup, disk) == BackupProblem.MISSING


def test_a_name_outside_of_the_folder_is_never_followed(disk: TaxDisk) -> None:
    backup = kept(disk, storage_name="../../etc/hostname")
    assert problem_of(backup, disk) == BackupProblem.MISSING


@pytest.mark.parametrize("where", [0, 40, -1])
def test_one_changed_byte_is_found(disk: TaxDisk, where: int) -> None:
    backup = kept(disk)
    sealed = bytearray(path_of(backup).read_bytes())
    sealed[where] ^= 1
    path_of(backup).write_bytes(bytes(sealed))
    assert problem_of(backup, disk) == BackupProblem.DAMAGED


@pytest.mark.parametrize("length", [0, 3, 60])
def test_a_torn_file_is_found(disk: TaxDisk, length: int) -> None:
    backup = kept(disk)
    path_of(backup).write_bytes(path_of(backup).read_bytes()[:length])
    assert problem_of(backup, disk) == BackupProblem.DAMAGED


def test_the_sealed_bytes_of_another_disk_do_not_open_and_are_called_so(
    disk: TaxDisk, make_disk: MakeDisk
) -> None:
    backup, other = kept(disk), kept(make_disk(disk.company, terminal_no=1))
    path_of(backup).write_bytes(path_of(other).read_bytes())
    assert problem_of(backup, disk) == BackupProblem.FOREIGN


def test_another_backup_of_the_same_disk_is_not_taken_for_this_one(disk: TaxDisk) -> None:
    first, second = kept(disk, b"first"), kept(disk, b"second")
    path_of(first).write_bytes(path_of(second).read_bytes())
    assert problem_of(first, disk) == BackupProblem.SWAPPED


def test_a_key_that_is_gone_is_told_from_damage(disk: TaxDisk) -> None:
    backup = kept(disk, b"content")
    other = KeyRing.parse(KeyRing.generate("gone"))
    path_of(backup).write_bytes(other.seal(b"content", context=context_of(disk)))
    assert problem_of(backup, disk) == BackupProblem.NO_KEY


def test_another_key_of_the_same_name_is_damage(disk: TaxDisk) -> None:
    backup = kept(disk, b"content")
    other = KeyRing.parse(KeyRing.generate("test"))
    path_of(backup).write_bytes(other.seal(b"content", context=context_of(disk)))
    assert problem_of(backup, disk) == BackupProblem.DAMAGED


def test_a_torn_write_of_an_earlier_try_is_replaced(disk: TaxDisk) -> None:
    backup = kept(disk, b"content")
    path_of(backup).write_bytes(b"")
    with agency_scope(disk.agency_id):
        assert keep_backup(disk, b"content") == (backup.storage_name, backup.sha256)
    assert problem_of(backup, disk) is None


def test_a_write_that_does_not_read_back_is_no_backup(
    disk: TaxDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(plain: bytes, *, context: str) -> bytes:
        return seal(plain, context=context)[:-1]

    monkeypatch.setattr("clearing.services.backups.seal", torn)
    with agency_scope(disk.agency_id), pytest.raises(Failure) as failure:
        keep_backup(disk, b"content")
    assert failure.value.code == Code.BACKUP_FAILED


# --- the check over all ---------------------------------------------------------------------------


def check(agency: Agency) -> tuple[str, bool]:
    """What the command prints for one agency, and whether it ended with status 0."""
    out = StringIO()
    try:
        call_command("check_backups", agency=agency.pk, stdout=out)
    except CommandError as error:
        return out.getvalue() + str(error), False
    return out.getvalue(), True


def test_a_check_of_whole_backups_ends_well_and_stands_in_the_trail(
    agency: Agency, disk: TaxDisk, again: Again
) -> None:
    backup = kept(disk)

    said, well = check(agency)

    assert well
    assert "完好 1，有问题 0" in said
    assert again(backup).looked_at is not None
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.get(action="backups.checked")
    assert entry.data == {"whole": 1, "stray": 0}


def test_a_check_names_each_bad_one_and_ends_badly(
    agency: Agency, disk: TaxDisk, make_disk: MakeDisk, again: Again
) -> None:
    whole, gone = kept(disk, b"whole"), kept(disk, b"gone")
    swapped, foreign = kept(disk, b"swapped"), kept(disk, b"foreign")
    elsewhere = kept(make_disk(disk.company, terminal_no=1), b"elsewhere")
    path_of(gone).unlink()
    path_of(swapped).write_bytes(path_of(whole).read_bytes())
    path_of(foreign).write_bytes(path_of(elsewhere).read_bytes())
    stray = path_of(whole).with_name("stray.sealed")
    stray.write_bytes(b"?")

    said, well = check(agency)

    assert not well
    assert "完好 2，有问题 3" in said
    for backup, problem in ((gone, "missing"), (swapped, "swapped"), (foreign, "foreign")):
        assert again(backup).problem == problem
        assert backup.storage_name in said
    assert again(whole).problem == ""
    assert stray.name in said
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.get(action="backups.checked")
    assert entry.data == {"whole": 2, "stray": 1, "missing": 1, "swapped": 1, "foreign": 1}


def test_a_restored_file_is_whole_again_at_the_next_check(
    agency: Agency, disk: TaxDisk, again: Again
) -> None:
    backup = kept(disk)
    sealed = path_of(backup).read_bytes()
    path_of(backup).unlink()
    assert not check(agency)[1]
    path_of(backup).write_bytes(sealed)

    assert check(agency)[1]
    assert again(backup).problem == ""


def test_a_bounded_check_takes_those_not_looked_at_for_longest(
    agency: Agency, disk: TaxDisk, again: Again
) -> None:
    before = real_now()
    first, second = kept(disk, b"first"), kept(disk, b"second", looked_at=before)

    check_agency(agency.pk, now=real_now, most=1)

    assert again(first).looked_at is not None
    assert again(second).looked_at == before
    with agency_scope(agency.pk):
        assert AuditEntry.objects.get(action="backups.checked").data["whole"] == 1


def test_a_check_sees_all_agencies_and_only_its_own_rows(
    agency: Agency,
    other_agency: Agency,
    disk: TaxDisk,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    kept(disk)
    foreign = kept(make_disk(make_company(of=other_agency)))
    path_of(foreign).unlink()

    with pytest.raises(CommandError):
        call_command("check_backups", stdout=StringIO())

    for home, counts in ((agency, {"whole": 1, "stray": 0}), (other_agency, {"missing": 1})):
        with agency_scope(home.pk):
            data = AuditEntry.objects.get(action="backups.checked").data
        assert counts.items() <= data.items()


def test_a_backup_is_written_through_to_the_disk_before_anything_can_rely_on_it(
    disk: TaxDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File and folders, before ``keep_backup`` returns; again where an earlier try wrote the file
    and perhaps got no further."""
    synced: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_file():  # whole, by now
            assert path.stat().st_size > len(b"content")
        synced.append(path)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    root = Path(default_storage.path("")).resolve()
    for _ in range(2):
        synced.clear()
        with agency_scope(disk.agency_id):
            name, _digest = keep_backup(disk, b"content")
        path = root / name
        assert synced == [path, *(each for each in path.parents if each.is_relative_to(root))]


def test_a_backup_that_cannot_be_written_through_is_none(
    disk: TaxDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", full)
    with agency_scope(disk.agency_id), pytest.raises(Failure) as caught:
        keep_backup(disk, b"content")
    assert caught.value.code == Code.BACKUP_FAILED
