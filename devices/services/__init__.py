"""Writing in the device layer. Everything runs inside an ``agency_scope``.

``machines``: reader machines, their codes and credentials. ``disks``: tax disks and what people
enter. ``pins``: the rolling PIN, and what its generation means (read it before touching either).
``presence``: what machines see, and the alarms that follow. Passwords are sealed here and nowhere
else, bound to their disk; none is ever part of an audit entry.
"""

from devices.services.disks import (
    disk_create,
    disk_password_enter,
    disk_passwords,
    password_refused,
    tries_noted,
)
from devices.services.machines import (
    CodeCreated,
    Enrolled,
    EnrolmentRefused,
    MachineCreated,
    NameTaken,
    broker_grant,
    code_hash,
    enrolment_code_create,
    machine_create,
    machine_enrol,
    machine_revoke,
    machine_roll,
)
from devices.services.pins import (
    machine_declare_lost,
    pin_delivered,
    pin_in_doubt,
    pin_intent_open,
    pin_not_sent,
    pin_not_taken,
    pin_try_last,
)
from devices.services.presence import SlotReport, presence_note

__all__ = [
    "CodeCreated",
    "Enrolled",
    "EnrolmentRefused",
    "MachineCreated",
    "NameTaken",
    "SlotReport",
    "broker_grant",
    "code_hash",
    "disk_create",
    "disk_password_enter",
    "disk_passwords",
    "enrolment_code_create",
    "machine_create",
    "machine_declare_lost",
    "machine_enrol",
    "machine_revoke",
    "machine_roll",
    "password_refused",
    "pin_delivered",
    "pin_in_doubt",
    "pin_intent_open",
    "pin_not_sent",
    "pin_not_taken",
    "pin_try_last",
    "presence_note",
    "tries_noted",
]
