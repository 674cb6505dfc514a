"""The page of a backup, its download, holds, and the page of all backups."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.test import Client

from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from clearing.models import BackupHold
from devices.models import TaxDisk
from tests.clearing.kept import card_content, kept, years_ago
from tests.conftest import MakeCompany, MakeDisk, Person

pytestmark = pytest.mark.usefixtures("storage")

Login = Callable[[Person], Client]


@pytest.fixture
def disk(bookkeeper: Person, make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company(short_name="晨光商贸", assigned_to=bookkeeper))


def trail(agency: Agency) -> list[str]:
    with agency_scope(agency.pk):
        return list(
            AuditEntry.objects.filter(action__startswith="backup")
            .order_by("sequence")
            .values_list("action", flat=True)
        )


def test_the_page_tells_what_was_on_the_disk_and_leaves_an_entry(
    login: Login, agency: Agency, bookkeeper: Person, disk: TaxDisk
) -> None:
    backup = kept(disk)

    page = login(bookkeeper).get(f"/backups/{backup.pk}").content.decode()

    # From the card's files: its deadline, the open period, the totals of February.
    for words in ("3月16日", "2月1日 – 2月28日", "1,500.50", "卷票", "EF04", disk.company.tax_id):
        assert words in page, words
    assert "不能写回税盘" in page
    assert "税局签发" in page
    assert "2036年12月31日" in page
    assert "下载原样" not in page
    assert trail(agency) == ["backup.opened"]


def test_a_damaged_one_is_said_to_be_so_and_that_stands_in_the_trail_too(
    login: Login, agency: Agency, supervisor: Person, disk: TaxDisk
) -> None:
    backup = kept(disk)
    Path(default_storage.path(backup.storage_name)).write_bytes(b"Q1 nonsense")
    client = login(supervisor)

    page = client.get(f"/backups/{backup.pk}").content.decode()
    down = client.post(f"/backups/{backup.pk}/download", follow=True)

    assert "此备份打不开" in page
    assert "文件已损坏" in page
    assert "没有下载" in down.content.decode()
    assert set(trail(agency)) == {"backup.damaged"}
    assert "文件已损坏" in client.get("/backups").content.decode()


def test_a_download_is_the_very_content_for_supervisors_only(
    login: Login, agency: Agency, supervisor: Person, bookkeeper: Person, disk: TaxDisk
) -> None:
    backup = kept(disk)

    answer = login(supervisor).post(f"/backups/{backup.pk}/download")

    assert answer.content == card_content(disk)
    assert hashlib.sha256(answer.content).hexdigest() == backup.sha256
    assert answer["Content-Disposition"].startswith("attachment")
    assert trail(agency) == ["backup.downloaded"]
    assert login(supervisor).get(f"/backups/{backup.pk}/download").status_code == 405
    assert login(bookkeeper).post(f"/backups/{backup.pk}/download").status_code == 403


def test_an_unknown_format_can_be_downloaded_but_is_not_guessed_at(
    login: Login, supervisor: Person, disk: TaxDisk
) -> None:
    backup = kept(disk, b'{"format":"of another year"}')
    page = login(supervisor).get(f"/backups/{backup.pk}").content.decode()
    assert "看不懂它的格式" in page
    assert "下载原样" in page


def test_what_was_deleted_says_so_and_gives_nothing(
    login: Login, supervisor: Person, disk: TaxDisk
) -> None:
    backup = kept(disk, deleted_at=years_ago(1))
    client = login(supervisor)
    assert "已过保存年限" in client.get(f"/backups/{backup.pk}").content.decode()
    assert client.post(f"/backups/{backup.pk}/download").status_code == 404


def test_own_foreign_and_forbidden(
    login: Login,
    bookkeeper: Person,
    front_desk: Person,
    client_person: Person,
    outsider: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    backup = kept(make_disk(make_company()))
    for path in (f"/backups/{backup.pk}", f"/backups/{backup.pk}/download"):
        ask = "post" if path.endswith("download") else "get"
        for person, status in ((bookkeeper, 403), (front_desk, 403), (outsider, 404)):
            assert getattr(login(person), ask)(path).status_code == status, (path, person)
        assert getattr(login(client_person), ask)(path).status_code == 404
    assert login(bookkeeper).get("/backups").status_code == 403


def test_a_hold_is_set_and_lifted_by_a_supervisor_with_a_reason(
    login: Login, agency: Agency, supervisor: Person, bookkeeper: Person, disk: TaxDisk
) -> None:
    address, client = f"/companies/{disk.company_id}/backup-hold", login(supervisor)
    assert login(bookkeeper).post(address, {"reason": "x"}).status_code == 403
    assert "必" in client.post(address, {"reason": ""}).content.decode()

    page = client.post(address, {"reason": "税务稽查"}, follow=True).content.decode()
    assert "已冻结" in page
    with agency_scope(agency.pk):
        assert BackupHold.objects.get().set_by == "吴主管"
    assert "税务稽查" in client.get("/backups").content.decode()
    client.post(address, {"reason": "稽查结束", "lift": "1"})

    with agency_scope(agency.pk):
        hold = BackupHold.objects.get()
    assert (hold.lifted_by, hold.lift_reason) == ("吴主管", "稽查结束")
    assert trail(agency) == ["backups.held", "backups.hold_lifted"]


def test_the_years_can_be_longer_and_never_shorter_than_the_law(
    login: Login, agency: Agency, supervisor: Person
) -> None:
    client = login(supervisor)
    assert "10" in client.post("/backups", {"years": "9"}).content.decode()
    assert client.post("/backups", {"years": "15"}).status_code == 302
    assert Agency.objects.get(pk=agency.pk).backup_years == 15
    assert trail(agency) == ["backups.years_changed"]
