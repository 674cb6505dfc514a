"""An import by the pages and by the command."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from agency.models import Agency, Company
from agency.scope import agency_scope
from devices import imports
from devices.models import ImportDraft
from tests.conftest import (
    Person,
)
from tests.devices.import_sheets import (
    SECRET,
    line,
    own_sheet,
    sheet,
)

# — The command


def test_the_command_imports_and_says_how_much(
    agency: Agency, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "客户.xlsx"
    file.write_bytes(sheet(line(), line()))
    call_command("import_clients", agency=agency.pk, file=file)
    assert "新增客户 2 户" in capsys.readouterr().out
    with agency_scope(agency.pk):
        assert Company.objects.count() == 2
        assert not ImportDraft.objects.exists()


def test_the_command_names_wrong_rows_and_writes_nothing(agency: Agency, tmp_path: Path) -> None:
    file = tmp_path / "客户.xlsx"
    file.write_bytes(sheet(line(), line(税号="1", 设备类型="白盘", 设备口令=SECRET)))
    with pytest.raises(CommandError, match="第 3 行：税号") as caught:
        call_command("import_clients", agency=agency.pk, file=file)
    assert SECRET not in str(caught.value)
    with agency_scope(agency.pk):
        assert not Company.objects.exists()
        assert not ImportDraft.objects.exists()


def test_the_command_refuses_an_unknown_agency_and_a_missing_file(
    agency: Agency, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match="没有编号为 0"):
        call_command("import_clients", agency=0, file=tmp_path / "x")
    with pytest.raises(CommandError, match="No such file"):
        call_command("import_clients", agency=agency.pk, file=tmp_path / "x")


# — The pages

Login = Callable[[Person], Client]


def send(client: Client, data: bytes, name: str = "客户.xlsx") -> Any:
    file = io.BytesIO(data)
    file.name = name
    return client.post(reverse("import-upload"), {"file": file})


def test_a_sheet_goes_from_the_upload_over_the_preview_to_the_board(
    agency: Agency, supervisor: Person, login: Login
) -> None:
    client = login(supervisor)
    assert client.get(reverse("import-upload")).status_code == 200
    answer = send(client, sheet(line(设备类型="白盘", 设备口令=SECRET)))
    assert answer.status_code == 302
    page = client.get(answer.url)
    assert page.status_code == 200
    text = page.content.decode()
    assert imports.HIDDEN in text
    assert SECRET not in text
    mapping = {f"c{i}": key for i, key in page.context["preview"].mapping.items()}
    done = client.post(answer.url, {**mapping, "action": "confirm"})
    assert (done.status_code, done.headers["Location"]) == (302, reverse("home"))
    with agency_scope(agency.pk):
        assert Company.objects.count() == 1
    assert client.get(answer.url).status_code == 404


def test_a_mapping_corrected_on_the_page_is_previewed_and_imported(
    agency: Agency, owner: Person, login: Login
) -> None:
    client = login(owner)
    url = send(client, own_sheet()).url
    assert "缺少必须的列" in client.get(url).content.decode()
    mapping = {"c1": "name", "c2": "tax_id", "c5": "phone"}
    page = client.get(url, mapping)
    assert page.context["preview"].confirmable
    assert SECRET not in page.content.decode()  # its column is not recognised, nor shown
    client.post(url, {**mapping, "action": "confirm"})
    with agency_scope(agency.pk):
        assert Company.objects.get().phone == "2"


def test_a_sheet_with_a_bad_row_cannot_be_confirmed(
    agency: Agency, owner: Person, login: Login
) -> None:
    client = login(owner)
    url = send(client, sheet(line(), line(税号="1"))).url
    page = client.get(url)
    assert page.context["rows"][0]["number"] == 3  # the bad row comes first
    assert "确认导入" not in page.content.decode()
    assert client.post(url, {"action": "confirm"}).status_code == 409
    with agency_scope(agency.pk):
        assert not Company.objects.exists()


def test_cancelling_forgets_the_sheet(agency: Agency, owner: Person, login: Login) -> None:
    client = login(owner)
    url = send(client, sheet(line())).url
    answer = client.post(url, {"action": "cancel"})
    assert answer.headers["Location"] == reverse("import-upload")
    with agency_scope(agency.pk):
        assert not ImportDraft.objects.exists()


def test_a_file_that_is_no_sheet_is_refused_on_the_page(
    agency: Agency, owner: Person, login: Login
) -> None:
    client = login(owner)
    answer = send(client, b"\x89PNG\r\n", "客户.xlsx")
    assert answer.status_code == 400
    assert "这是图片" in answer.content.decode()
    assert "文件是空的" in send(client, b"").content.decode()
    assert "请先选择文件" in client.post(reverse("import-upload")).content.decode()


def test_another_persons_draft_is_not_found(
    agency: Agency, owner: Person, supervisor: Person, outsider: Person, login: Login
) -> None:
    url = send(login(owner), sheet(line())).url
    for person in (supervisor, outsider):
        assert login(person).get(url).status_code == 404
        assert login(person).post(url, {"action": "confirm"}).status_code == 404
    assert login(owner).get(url).status_code == 200


def test_importing_needs_the_right_which_a_setting_gives_to_bookkeepers(
    agency: Agency, bookkeeper: Person, front_desk: Person, client_person: Person, login: Login
) -> None:
    urls = [reverse("import-upload"), reverse("import-template")]
    for person in (bookkeeper, front_desk, client_person):
        assert {login(person).get(url).status_code for url in urls} == {403}
        assert send(login(person), sheet(line())).status_code == 403
    Agency.objects.filter(pk=agency.pk).update(bookkeepers_may_import=True)
    assert login(bookkeeper).get(urls[0]).status_code == 200
    assert login(front_desk).get(urls[0]).status_code == 403


def test_the_template_is_downloaded(owner: Person, login: Login) -> None:
    answer = login(owner).get(reverse("import-template"))
    assert answer["Content-Disposition"].endswith('.xlsx"')
    assert answer.content.startswith(b"PK")
