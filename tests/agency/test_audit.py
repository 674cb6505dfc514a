"""The trail: in the transaction of what it records, unchangeable, and checked from end to end."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

from agency import audit
from agency.choices import Action, ActorKind
from agency.models import Agency, AuditEntry
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


def test_a_changed_entry_is_found_by_its_sequence(agency: Agency) -> None:
    with agency_scope(agency.pk):
        for _ in range(3):
            audit.record(Action.COMPANY_CHANGED)
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.get(sequence=3)
        forged = {name: getattr(entry, name) for name in audit.CONTENT_FIELDS}
        assert audit.content_hash(bytes(entry.salt), forged) == bytes(entry.content_hash)
        forged["actor_name"] = "别人"
        assert audit.content_hash(bytes(entry.salt), forged) != bytes(entry.content_hash)
