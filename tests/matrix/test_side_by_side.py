"""Two agencies side by side: what one does changes no page of the other; one person in both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction

from agency.choices import Role
from agency.scope import agency_scope
from agency.services import company_assign, member_add
from clearing.states import RunState
from devices.services import SlotReport, presence_note
from tests.clearing import scenes
from tests.conftest import NOW, PASSWORD, Person, fictional_tax_id, signed_in
from tests.devices.import_sheets import line, sheet
from tests.matrix.asking import Asker, Target
from tests.matrix.conftest import World
from tests.matrix.rights import OPEN_RIGHTS, ROWS, Row, answer_for
from tests.matrix.test_matrix import Answer, asked
from tests.matrix.world import House, add_company, add_disk

#: A new secret at each look; a workbook that holds the time at which it was made.
NEW_EACH_TIME = {"mfa_activate_totp", "import-template"}
PAGES = [
    row
    for row in ROWS
    if row.method == "GET"
    and not row.for_machines
    and not row.for_operators
    and row.right not in OPEN_RIGHTS
    and row.route not in NEW_EACH_TIME
]


@pytest.fixture
def undone(world: World) -> Iterator[None]:
    """What a test adds to the world is undone."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def pages(who: Asker) -> dict[Row, Answer]:
    """Every page that this person may open, as it is now."""
    assert who.house is not None
    target = Target(who.house)
    return {row: asked(row, who, target) for row in PAGES if answer_for(row, who.name) == "ok"}


def grow(house: House, by: Person) -> None:
    """A company more with disks, runs, an unknown disk, a person; everything that is counted."""
    company = add_company(house, f"{house.mark}又一户")
    with agency_scope(house.agency.pk):
        company_assign(companies=[company], member=by.member)
        member_add(
            agency=house.agency,
            username=f"{house.mark}-more",
            password=PASSWORD,
            name=f"{house.mark}又一人",
            role=Role.BOOKKEEPER,
        )
    ends: list[tuple[RunState, dict[str, Any]]] = [
        (RunState.FAILED, {"code": "password_wrong"}),
        (RunState.WAITING, {"reason": "disk"}),
        (RunState.UNKNOWN, {}),
    ]
    for state, fields in ends:
        scenes.run(add_disk(house, company), state, **fields)
    with agency_scope(house.agency.pk):
        presence_note(
            machine=house.machines["other_machine"].machine,
            slots=[SlotReport("Z-01", "6900000000000001", company.tax_id)],
            version="t",
            now=NOW,
        )


@pytest.mark.usefixtures("undone")
@pytest.mark.parametrize("name", ["owner", "assigned", "front_desk", "client"])
def test_whatever_the_other_agency_does_no_page_and_no_count_changes(
    name: str, world: World
) -> None:
    who = world.asker(name)
    before = pages(who)
    grow(world.away, world.away.people["assigned"])
    after = pages(who)
    assert [str(row) for row in before if before[row] != after[row]] == []


@pytest.mark.usefixtures("undone")
def test_what_the_own_agency_does_is_seen(world: World) -> None:
    """The control of the test above."""
    who = world.asker("owner")
    before = pages(who)
    grow(world.home, world.home.people["assigned"])
    after = pages(who)
    changed = {row.route for row in before if before[row] != after[row]}
    assert changed >= {"home", "board-counters", "failures", "members"}


@pytest.mark.usefixtures("undone")
def test_a_person_of_both_agencies_sees_the_open_one_alone(world: World) -> None:
    """In one browser after the other was opened there, and in another at the same time."""
    person = world.home.people["owner"]
    with agency_scope(world.away.agency.pk):
        member = member_add(
            agency=world.away.agency,
            username=person.user.username,
            password=PASSWORD,
            name="两边",
            role=Role.OWNER,
        )
    both = Person(person.user, member, person.viewer)
    here, there = (Asker("owner", house, signed_in(both)) for house in (world.home, world.away))
    for who in (here, there, here):
        assert who.house is not None
        chosen = who.client.post("/agency", {"agency": who.house.agency.pk})
        assert chosen.status_code == 302
    for who, other in ((here, world.away), (there, world.home)):
        assert who.house is not None
        seen = pages(who)
        # The list of the own agencies names both.
        texts = {row: seen[row].body.replace(other.agency.name, "") for row in seen}
        assert [str(row) for row in texts if any(m in texts[row] for m in other.marks())] == []
        assert who.house.mark in texts[next(row for row in texts if row.route == "home")]
    here.client.post("/agency", {"agency": world.away.agency.pk})
    turned = Asker("owner", world.away, here.client)
    found = {row: answer.body for row, answer in pages(turned).items()}
    assert not any(f"{world.home.mark}在手" in body for body in found.values())


@pytest.mark.usefixtures("undone")
def test_a_sheet_with_numbers_of_the_other_agency_is_like_one_with_new_ones(world: World) -> None:
    """The preview, and what is written: no error tells that somebody has them."""

    def imported(tax_id: str, device_no: str) -> tuple[str, str, int]:
        row = line(税号=tax_id, 盘号=device_no, 设备类型="IC卡")
        file = SimpleUploadedFile("客户.xlsx", sheet(row))
        with transaction.atomic():
            client = world.asker("owner").client
            draft = client.post("/import/", {"file": file})["Location"]
            preview = client.get(draft).content.decode()
            done = client.post(draft, {"action": "confirm"})
            said = client.get("/").content.decode()
            transaction.set_rollback(True)
        plain = re.sub(r"/import/\d+/|csrf\w+\W+value=\"\w+|X-CSRFToken\W+\w+", "", preview)
        plain = plain.replace(tax_id, "#").replace(device_no, "#")
        return plain, "".join(re.findall(r"导入完成[^<]*", said)), done.status_code

    theirs = imported(world.away.company.tax_id, str(world.away.disk.device_no))
    nobodys = imported(fictional_tax_id(), "6800000000000007")
    assert theirs == nobodys
    assert theirs[2] == 302
    assert "新增客户 1 户" in theirs[1]
