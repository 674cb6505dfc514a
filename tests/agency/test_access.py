"""Who may what, as the table of rights says; and the way of a refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.http import Http404

from agency.access import RIGHTS, Refused, access_company, companies_of, memberships_of, require
from agency.choices import Act, Role
from agency.models import Agency
from agency.scope import agency_scope
from agency.services import company_assign, member_add
from tests.conftest import PASSWORD, MakeCompany, Person

# The table of rights, written down once more by hand: owner, supervisor, bookkeeper, front desk.
EXPECTED: dict[Act, str] = {
    Act.SEE: "OSBF",
    Act.RUN: "OSB",
    Act.START_WAITING: "OSBF",
    Act.MARK_FILED: "OSB",
    Act.HOLD: "OSB",
    Act.PAUSE: "OS",
    Act.ENTER_PASSWORD: "OSB",
    Act.REVIEW: "OSB",
    Act.PIN_WAY_OUT: "OS",
    Act.BY_HAND: "OS",
    Act.IMPORT: "OS",
    Act.ASSIGN: "OS",
    Act.MACHINES: "OS",
    Act.SEE_AUDIT: "OS",
    Act.EXPORT_AUDIT: "O",
    Act.MEMBERS: "O",
    Act.SUPPORT_CONSENT: "O",
    Act.CUSTODY: "OSBF",
    Act.OPEN_BACKUP: "OSB",
    Act.KEEP_BACKUPS: "OS",
    Act.CLIENT_LINKS: "OSB",
}
LETTERS = {
    Role.OWNER: "O",
    Role.SUPERVISOR: "S",
    Role.BOOKKEEPER: "B",
    Role.FRONT_DESK: "F",
    Role.CLIENT: "-",
}


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("act", list(Act))
def test_the_rights_are_those_of_the_table(role: Role, act: Act) -> None:
    assert (act in RIGHTS[role]) == (LETTERS[role] in EXPECTED[act])


def test_a_refusal_names_who_may(agency: Agency, owner: Person, bookkeeper: Person) -> None:
    with (
        agency_scope(agency.pk),
        pytest.raises(Refused, match="您没有“管理成员”的权限，请联系：负责人 周负责"),
    ):
        require(bookkeeper.viewer, Act.MEMBERS)


def test_a_setting_lets_bookkeepers_import(agency: Agency, bookkeeper: Person) -> None:
    allowed = replace(bookkeeper.viewer, more_rights=frozenset({Act.IMPORT}))
    with agency_scope(agency.pk):
        require(allowed, Act.IMPORT)
        with pytest.raises(Refused):
            require(bookkeeper.viewer, Act.IMPORT)


def test_a_company_is_found_refused_or_not_there(
    agency: Agency,
    other_agency: Agency,
    bookkeeper: Person,
    front_desk: Person,
    client_person: Person,
    make_company: MakeCompany,
) -> None:
    mine = make_company(assigned_to=bookkeeper)
    colleagues, foreign = make_company(), make_company(of=other_agency)
    with agency_scope(agency.pk):
        assert access_company(bookkeeper.viewer, mine.pk, Act.RUN) == mine
        with pytest.raises(Refused):
            access_company(bookkeeper.viewer, colleagues.pk, Act.RUN)
        with pytest.raises(Refused):
            access_company(front_desk.viewer, mine.pk, Act.RUN)
        for missing in (foreign.pk, 10**9):
            with pytest.raises(Http404):
                access_company(bookkeeper.viewer, missing, Act.SEE)
        with pytest.raises(Http404):  # a client never learns which companies there are
            access_company(client_person.viewer, colleagues.pk, Act.SEE)


def test_bookkeepers_and_clients_see_their_own_companies_and_the_others_all(
    agency: Agency,
    supervisor: Person,
    bookkeeper: Person,
    client_person: Person,
    make_company: MakeCompany,
) -> None:
    mine, other = make_company(assigned_to=bookkeeper), make_company()
    with agency_scope(agency.pk):
        company_assign(companies=[other], member=client_person.member)
        assert list(companies_of(bookkeeper.viewer)) == [mine]
        assert list(companies_of(client_person.viewer)) == [other]
        assert set(companies_of(supervisor.viewer)) == {mine, other}


def test_a_person_of_two_agencies_is_found_in_both(
    agency: Agency, other_agency: Agency, owner: Person
) -> None:
    with agency_scope(other_agency.pk):
        member_add(
            agency=other_agency,
            username=owner.user.username,
            password=PASSWORD,
            name="周负责",
            role=Role.BOOKKEEPER,
        )
    assert [(place, role) for place, _, role in memberships_of(owner.user.pk)] == [
        (agency.pk, Role.OWNER),
        (other_agency.pk, Role.BOOKKEEPER),
    ]
