"""The trail: in the transaction of what it records, unchangeable, and checked from end to end."""

from __future__ import annotations

import contextlib

import pytest
from django.db import DatabaseError, connection, transaction

from agency import audit
from agency.choices import Action, ActorKind
from agency.errors import ServiceError
from agency.models import PLATFORM, Agency, AuditEntry
from agency.scope import agency_scope


def test_an_entry_names_the_actor_and_takes_the_next_sequence(agency: Agency) -> None:
    actor = audit.Actor(ActorKind.USER, "郑会计", 7)
    with audit.acting(actor, request_id="r1"), agency_scope(agency.pk):
        audit.record(Action.COMPANY_CHANGED, agency, data={"what": "电话"})
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.order_by("-sequence").first()
        assert entry is not None
        assert (entry.sequence, entry.actor_name, entry.request_id) == (2, "郑会计", "r1")
        assert audit.first_bad_sequence() is None


def test_what_is_rolled_back_leaves_no_entry(agency: Agency) -> None:
    with agency_scope(agency.pk):
        with pytest.raises(KeyError), agency_scope(agency.pk):
            audit.record(Action.COMPANY_CHANGED)
            raise KeyError
        audit.record(Action.COMPANY_CREATED)
    with agency_scope(agency.pk):
        actions = list(AuditEntry.objects.order_by("sequence").values_list("action", flat=True))
    assert actions == [Action.AGENCY_CREATED, Action.COMPANY_CREATED]


@pytest.mark.parametrize("how", ["a refusal", "without an exception", "after a nested scope"])
def test_an_act_that_a_savepoint_took_back_leaves_no_entry(agency: Agency, how: str) -> None:
    """Whoever opened the savepoint, and however it was rolled back."""
    with agency_scope(agency.pk):
        audit.record(Action.COMPANY_CREATED, data={"n": 1})
        with contextlib.suppress(ServiceError), transaction.atomic():
            audit.record(Action.COMPANY_CHANGED)
            with agency_scope(agency.pk), transaction.atomic():
                audit.record(Action.COMPANY_CHANGED)
            if how == "a refusal":
                raise ServiceError("x")
            if how == "after a nested scope":
                with agency_scope(agency.pk):
                    raise ServiceError("x")
            transaction.set_rollback(True)
        with transaction.atomic():
            audit.record(Action.COMPANY_CREATED, data={"n": 2})
    with agency_scope(agency.pk):
        kept = AuditEntry.objects.order_by("sequence").filter(sequence__gt=1)
        assert list(kept.values_list("action", "data__n")) == [
            (Action.COMPANY_CREATED, 1),
            (Action.COMPANY_CREATED, 2),
        ]
        assert audit.first_bad_sequence() is None


def test_agencies_in_turn_keep_their_entries_apart(agency: Agency, other_agency: Agency) -> None:
    with agency_scope(agency.pk):
        audit.record(Action.COMPANY_CREATED)
        with agency_scope(other_agency.pk):
            audit.record(Action.COMPANY_CHANGED)
            with agency_scope(agency.pk):
                audit.record(Action.COMPANY_CREATED)
        with contextlib.suppress(KeyError), agency_scope(other_agency.pk):
            audit.record(Action.COMPANY_CHANGED)
            raise KeyError
    for of, action, count in (
        (agency, Action.COMPANY_CREATED, 2),
        (other_agency, Action.COMPANY_CHANGED, 1),
    ):
        with agency_scope(of.pk):
            found = AuditEntry.objects.order_by("sequence").values_list("action", flat=True)
            assert list(found) == [Action.AGENCY_CREATED, *[action] * count]
            assert audit.first_bad_sequence() is None


def test_outside_of_a_scope_nothing_can_be_recorded() -> None:
    with pytest.raises(RuntimeError):
        audit.record(Action.COMPANY_CHANGED)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE agency_auditentry SET actor_name = 'x'",
        "DELETE FROM agency_auditentry",
        "TRUNCATE agency_auditentry",
    ],
)
def test_the_database_refuses_to_change_the_trail(agency: Agency, statement: str) -> None:
    with (
        agency_scope(agency.pk),
        pytest.raises(DatabaseError, match="permission denied"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


def test_an_automatic_act_names_its_plan_and_who_changed_it_last(agency: Agency) -> None:
    plan = audit.Actor(ActorKind.SYSTEM, "系统", plan="每月 9 日自动抄报", plan_changed_by="吴主管")
    with audit.acting(plan), agency_scope(agency.pk):
        audit.record(Action.BATCH_STARTED)
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.order_by("-sequence")[0]
        assert (entry.plan, entry.plan_changed_by) == ("每月 9 日自动抄报", "吴主管")
        content = audit.content_of(vars(entry))
        assert content["plan"] == "每月 9 日自动抄报"
        first = audit.content_of(vars(AuditEntry.objects.get(sequence=1)))
        assert "plan" not in first
        assert audit.first_bad_sequence() is None


def test_text_that_no_database_keeps_is_recorded_with_a_mark_in_its_place(agency: Agency) -> None:
    with agency_scope(agency.pk):
        audit.record(
            Action.COMPANY_CHANGED, data={"path": "/a\x00b\ud800", "at": ["\n", None, 2**70]}
        )
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.get(sequence=2)
        assert entry.data == {"path": "/a\ufffdb\ufffd", "at": ["\n", None, 2**70]}
        assert audit.first_bad_sequence() is None


@pytest.mark.parametrize("odd", [1.5, b"x", {1: "x"}, object()])
def test_data_that_would_come_back_otherwise_is_refused(agency: Agency, odd: object) -> None:
    with agency_scope(agency.pk), pytest.raises(TypeError, match="audit trail"):
        audit.record(Action.COMPANY_CHANGED, data={"odd": odd})


def test_the_platforms_chain_is_nobodys_agency(database: None) -> None:
    assert not Agency.objects.filter(pk=PLATFORM).exists()
    with agency_scope(PLATFORM):
        before = audit.stored_end().sequence
        audit.record(Action.SIGN_IN_REFUSED)
    with agency_scope(PLATFORM):
        assert audit.stored_end().sequence == before + 1
        assert audit.first_bad_sequence() is None
