"""Who may do what, written by hand: the table of rights, and which right each address asks for.

Nothing here is derived from the code under test. Each word of :data:`RIGHTS` is the answer for an
object of the person's own agency:

* ``ok``: done or shown
* ``403``: refused, with a page that names who may
* ``404``: not there, as far as this person can tell
* ``form``: the form comes back with an error, nothing is done
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

OPERATORS = ("operator", "visiting_operator")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")

# covering: has the assigned one's companies today (代班); ex_cover: had them until yesterday.
RIGHTS = """
                      owner supervisor assigned covering ex_cover unassigned front_desk client
everybody             ok    ok         ok       ok       ok       ok         ok         ok
be signed in          ok    ok         ok       ok       ok       ok         ok         ok
set up a factor       form  form       form     form     form     form       form       form
use an own factor     404   404        404      404      404      404        404        404
see the board         ok    ok         ok       ok       ok       ok         403        403
see a company         ok    ok         ok       ok       403      403        403        403
work on a company     ok    ok         ok       ok       403      403        403        403
see a batch           ok    ok         ok       ok       403      403        403        403
start at the counter  ok    ok         ok       ok       403      403        ok         403
enter a password      ok    ok         ok       ok       403      403        403        403
see unknown disks     ok    ok         ok       ok       ok       ok         403        403
add an unknown disk   ok    ok         ok       ok       form     form       403        403
PIN way-out           ok    ok         403      403      403      403        403        403
enter by hand         ok    ok         403      403      403      403        403        403
import                ok    ok         403      403      403      403        403        403
import an own sheet   ok    404        403      403      403      403        403        403
see the members       ok    ok         403      403      403      403        403        403
arrange covers        ok    ok         403      403      403      403        403        403
manage members        ok    403        403      403      403      403        403        403
join by a link        form  form       form     form     form     form       form       form
consent to support    ok    403        403      403      403      403        403        403
see the trail         ok    ok         403      403      403      403        403        403
export the trail      ok    403        403      403      403      403        403        403
machines              ok    ok         403      403      403      403        403        403
keep backups          ok    ok         403      403      403      403        403        403
pause a bureau        ok    ok         403      403      403      403        403        403
"""

MACHINE_RIGHTS = """
                        machine  other_machine  revoked_machine
work                    ok       ok             403
permission for a run    ok       404            409
renewal of a run        ok       404            403
facts of a run          ok       404            ok
"""

# Without a support session, and with one in the agency whose objects are asked for.
OPERATOR_RIGHTS = """
                        operator  visiting_operator
run the platform        ok        ok
look into an agency     403       ok
"""

# name of the address, methods, right, whose object the address or the form names
ROUTES = """
home                 GET                         be signed in
board-rows           GET                         see the board           company
board-counters       GET                         see the board
act-confirm          GET                         work on a company       company
act-start            POST                        work on a company       company
company              GET                         see a company           company
disk-password        GET,POST                    enter a password        disk
disk-pin             GET,POST                    PIN way-out             disk_in_doubt
disk-start           POST                        start at the counter    disk
by-hand              GET,POST                    enter by hand           period
backups              GET,POST                    keep backups
bureaus              GET,POST                    pause a bureau
backup               GET                         see a company           backup
backup-download      POST                        keep backups            backup
backup-hold          GET,POST                    keep backups            company
failures             GET                         see the board
batch-list           GET                         see the board
batch                GET                         see a batch             batch
machines             GET                         machines
machine-add          GET,POST                    machines
machine-roll         GET,POST                    machines                machine
machine-revoke       GET,POST                    machines                machine
machine-lost         GET,POST                    PIN way-out             machine_lost
machine-labels       GET                         machines                machine
unknown-disks        GET                         see unknown disks
unknown-disk-add     GET,POST                    add an unknown disk     slot
import-upload        GET,POST                    import
import-template      GET                         import
import-preview       GET,POST                    import an own sheet     draft
account_login               GET,POST             everybody
mfa_authenticate            GET,POST             everybody
account_reauthenticate      GET,POST             be signed in
mfa_reauthenticate          GET,POST             be signed in
account                     GET                  be signed in
sessions-end                POST                 be signed in
account_change_password     GET,POST             be signed in
mfa_activate_totp           GET,POST             set up a factor
mfa_generate_recovery_codes GET,POST             set up a factor
mfa_deactivate_totp         GET,POST             use an own factor
mfa_view_recovery_codes     GET                  use an own factor
members              GET                         see the members
member-invite        POST                        manage members
member-demand        POST                        manage members
member-role          POST                        manage members          member
member-remove        POST                        manage members          member
member-reset         GET,POST                    manage members          member
invitation-revoke    POST                        manage members          invitation
cover                POST                        arrange covers
cover-end            POST                        arrange covers          cover
support              GET                         consent to support
support-allow        POST                        consent to support
support-withdraw     POST                        consent to support
support-end          POST                        consent to support      support_session
client-links         GET,POST                    see a company           company
client-link-revoke   POST                        see a company           link
client-enter         GET,POST                    everybody               link_token
password-renew       GET,POST                    everybody               renewal
invitation           GET,POST                    join by a link          token
logout               POST,OPTIONS                be signed in
agency-switch        POST                        be signed in            agency
set_language         POST                        everybody
audit                GET                         see the trail
audit-export         GET,POST                    export the trail
audit-verifier       GET                         export the trail
healthz              GET                         everybody
machine-enrol        POST                        everybody               code
machine-presence     POST                        work
machine-claim        POST                        work
machine-intend       POST                        permission for a run    run
machine-keep         POST                        facts of a run          run
machine-renew        POST                        renewal of a run        run
machine-record       POST                        facts of a run          run
machine-settle       POST                        facts of a run          run
machine-release      POST                        facts of a run          run
operator:index                         GET       run the platform
operator:support-open                  GET,POST  run the platform        agency
operator:trail                         GET       run the platform
operator:support-leave                 POST      run the platform
operator:agency_company_changelist     GET       look into an agency
operator:agency_company_change         GET       look into an agency     company
operator:agency_auditentry_changelist  GET       look into an agency
operator:agency_auditentry_change      GET       look into an agency     entry
operator:devices_taxdisk_changelist    GET       look into an agency
operator:devices_taxdisk_change        GET       look into an agency     disk
operator:devices_machine_changelist    GET       look into an agency
operator:devices_machine_change        GET       look into an agency     machine
operator:devices_slot_changelist       GET       look into an agency
operator:devices_slot_change           GET       look into an agency     slot
operator:clearing_diskperiod_changelist GET      look into an agency
operator:clearing_diskperiod_change    GET       look into an agency     period
operator:clearing_run_changelist       GET       look into an agency
operator:clearing_run_change           GET       look into an agency     run
operator:clearing_batch_changelist     GET       look into an agency
operator:clearing_batch_change         GET       look into an agency     batch
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One address with one method. ``of``: the object it names, empty for none."""

    route: str
    method: str
    right: str
    of: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.route}"

    @property
    def for_machines(self) -> bool:
        return self.right in _MACHINE_RIGHTS

    @property
    def for_operators(self) -> bool:
        return self.route.startswith("operator:")


def _table(text: str) -> dict[str, dict[str, str]]:
    head, *lines = [line for line in text.splitlines() if line.strip()]
    columns = head.split()
    table = {}
    for line in lines:
        cells = line.split()
        name = " ".join(cells[: -len(columns)])
        table[name] = dict(zip(columns, cells[-len(columns) :], strict=True))
    return table


_PEOPLE_RIGHTS = _table(RIGHTS)
_MACHINE_RIGHTS = _table(MACHINE_RIGHTS)
_OPERATOR_RIGHTS = _table(OPERATOR_RIGHTS)


def _rows() -> list[Row]:
    rows = []
    for line in ROUTES.strip().splitlines():
        route, methods, rest = line.split(maxsplit=2)
        right, _, of = rest.partition("  ")
        for method in methods.split(","):
            rows.append(Row(route, method, right, of.strip()))
    return rows


ROWS = _rows()
#: A further asker is a further column above and a line in ``world.py``.
PEOPLE = tuple(_PEOPLE_RIGHTS["everybody"])
MACHINES = tuple(_MACHINE_RIGHTS["work"])

#: An address whose object is a secret of its own (a code), or which answers with what it finds.
NO_COMPARISON = {"machine-enrol", "board-rows", "invitation", "client-enter"}
#: The operator opens a session in any agency that consents.
NO_COMPARISON |= {"operator:support-open", "password-renew"}
#: The right of a method that an address does not have.
NOT_ALLOWED = "not allowed"
#: Rights for which nobody has to be signed in.
OPEN_RIGHTS = {"everybody", "join by a link"}


_BY_NAME = {(row.route, row.method): row for row in ROWS}
#: Methods in the order in which a view is likely to know them.
_LIKELY = ("POST", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
#: How many ask with each further method that an address does not have.
_IN_TURN = 3


def rows_of(route: str) -> list[Row]:
    """The address with every method; those that no line of the table has are ``not allowed``."""
    of = next(row.of for row in ROWS if row.route == route)
    return [_BY_NAME.get((route, name), Row(route, name, NOT_ALLOWED, of)) for name in METHODS]


def methods_of(route: str) -> set[str]:
    return {row.method for row in ROWS if row.route == route}


def in_turn(row: Row, everyone: Sequence[T]) -> list[T]:
    """Who of ``everyone`` asks with a method that the address does not have. One list of methods
    refuses them all, whoever asks, and each refusal says that list: with the likeliest method
    everybody asks, with the others a few each, so that everybody has asked with another one."""
    missing = [name for name in _LIKELY if name not in methods_of(row.route)]
    turn = missing.index(row.method)
    if turn == 0:
        return list(everyone)
    first = (turn - 1) * _IN_TURN
    return [everyone[(first + number) % len(everyone)] for number in range(_IN_TURN)]


def is_compared(row: Row) -> bool:
    """Whether a foreign object is asked for."""
    return bool(row.of) and row.right != NOT_ALLOWED and row.route not in NO_COMPARISON


def size() -> str:
    """How many questions the matrix asks; ``World.asked_for`` says who asks what."""
    outside = PEOPLE + MACHINES
    home = ("nobody", *outside)
    questions = 0
    for row in (row for route in {row.route for row in ROWS} for row in rows_of(route)):
        here = (*OPERATORS, *OPERATORS, *home) if row.for_operators else home
        if row.right == NOT_ALLOWED:
            questions += len(in_turn(row, here))
            continue
        askers = here if row.for_operators else (*home, *outside)
        questions += len(askers)
        if is_compared(row):
            those = OPERATORS * 2 if row.for_operators else askers
            questions += sum(1 if answer_for(row, who) == "login" else 2 for who in those)
    return (
        f"{len({row.route for row in ROWS})} addresses x {len(METHODS)} methods"
        f" x {len(home + outside) + 2 * len(OPERATORS)} askers: {questions} questions"
    )


def answer_for(row: Row, who: str) -> str:
    """What the table says to ``who`` about an object that is theirs to ask for."""
    open_to_all = row.right in OPEN_RIGHTS
    if row.for_operators and who in PEOPLE + OPERATORS:
        return _OPERATOR_RIGHTS[row.right].get(who, "404")
    if row.for_machines:
        # A session opens nothing here, and neither does nobody.
        return _MACHINE_RIGHTS[row.right].get(who, "401")
    if who in _PEOPLE_RIGHTS.get(row.right, ()):
        answer = _PEOPLE_RIGHTS[row.right][who]
        return "ok" if (answer, row.method) == ("form", "GET") else answer
    return "ok" if open_to_all else "login"  # nobody, and a machine's token on a page
