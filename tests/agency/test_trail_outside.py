"""The trail outside the database: signed heads, exports, and tampering found by both verifiers."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from agency import audit, chain, export, heads, qingka_verify
from agency.choices import Action
from agency.clock import BEIJING
from agency.models import PLATFORM, Agency, AuditEntry, HeadHandOver, SignedHead
from agency.scope import agency_scope
from agency.signing import SigningKey
from deploy.embedded import EmbeddedPostgres
from tests.conftest import MakeCompany, Person

Login = Callable[[Person], Client]
KEY = SigningKey.generate()
NOW = dt.datetime(2026, 11, 9, 10, 12, tzinfo=BEIJING)


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.AUDIT_KEY = KEY
    settings.AUDIT_PLACES = f"file:{tmp_path}"
    return tmp_path


@pytest.fixture
def trail(agency: Agency) -> Agency:
    """A chain of six entries."""
    for number in range(5):
        with agency_scope(agency.pk):
            audit.record(Action.COMPANY_CHANGED, company_id=number % 2, data={"n": number})
    return agency


def sheet(agency: Agency, folder: Path) -> None:
    """The heads of this agency alone, as if the day had been signed and handed over."""
    key = SigningKey.parse(KEY)
    with agency_scope(agency.pk):
        head = heads.signed_end(key, agency.pk, day=NOW.date(), at=NOW)
    (folder / "heads-2026-11-09.jsonl").write_bytes(heads.line_of(head))


def exported(agency: Agency, company_id: int | None = None) -> list[str]:
    body = b"".join(export.lines(agency.pk, company_id=company_id, now=NOW))
    return body.decode().splitlines()


def verified(agency: Agency, folder: Path) -> str:
    """What ``verify_audit`` says of one agency."""
    out = io.StringIO()
    try:
        call_command("verify_audit", agency=[agency.pk], heads=folder, stdout=out)
    except CommandError as error:
        out.write(str(error))
    return out.getvalue()


def outside(lines: list[str], folder: Path) -> list[tuple[int, str]]:
    """What the stand-alone verifier finds."""
    public = SigningKey.parse(KEY).public
    return qingka_verify.check(lines, qingka_verify.read_heads([str(folder)]), [public]).faults


@pytest.fixture
def tamper(postgres: EmbeddedPostgres, trail: Agency) -> Iterator[Callable[..., None]]:
    """Statements of a superuser with the triggers off; what they spoilt is gone afterwards."""
    with psycopg.connect(postgres.superuser_url(), dbname="qingka", autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")

        def run(*statements: str) -> None:
            for statement in statements:
                conn.execute(statement.encode())

        yield run
        for table in ("agency_auditentry", "agency_audithead"):
            conn.execute(
                sql.SQL("DELETE FROM {} WHERE agency_id = %s").format(sql.Identifier(table)),
                [trail.pk],
            )


UPDATE = "UPDATE agency_auditentry SET "
OF_IT = " WHERE agency_id = {id} AND sequence"
TAMPERED = {
    "changed": ([UPDATE + "actor_name = '别人'" + OF_IT + " = 3"], 3, "changed"),
    "deleted": (
        ["DELETE FROM agency_auditentry WHERE agency_id = {id} AND sequence = 3"],
        3,
        "missing",
    ),
    "inserted": (
        [
            UPDATE + "sequence = sequence + 100" + OF_IT + " >= 3",
            "INSERT INTO agency_auditentry (agency_id, sequence, at, actor_kind, actor_name,"
            " plan, plan_changed_by, action, object_type,"
            " object_name, data, request_id, salt, content_hash, previous_hash, hash)"
            " SELECT agency_id, 3, at, actor_kind, actor_name,"
            " plan, plan_changed_by, action, object_type,"
            " object_name, data, request_id, salt, content_hash, previous_hash, hash"
            " FROM agency_auditentry WHERE agency_id = {id} AND sequence = 104",
            UPDATE + "sequence = sequence - 99" + OF_IT + " > 100",
        ],
        3,
        "changed",
    ),
    "reordered": (
        [
            UPDATE + "sequence = 100" + OF_IT + " = 3",
            UPDATE + "sequence = 3" + OF_IT + " = 4",
            UPDATE + "sequence = 4" + OF_IT + " = 100",
        ],
        3,
        "out_of_place",
    ),
    "cut off": (
        [
            "DELETE FROM agency_auditentry WHERE agency_id = {id} AND sequence > 4",
            "UPDATE agency_audithead SET sequence = 4, hash = (SELECT hash FROM agency_auditentry"
            " WHERE agency_id = {id} AND sequence = 4) WHERE agency_id = {id}",
        ],
        5,
        "cut_off",
    ),
}


@pytest.mark.committed
@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_is_found_and_located_by_both_verifiers(
    how: str, trail: Agency, folder: Path, tamper: Callable[..., None]
) -> None:
    sheet(trail, folder)
    assert "6 条相符, 签名证明到第 6 条" in verified(trail, folder)
    assert outside(exported(trail), folder) == []
    statements, sequence, word = TAMPERED[how]

    tamper(*(statement.format(id=trail.pk) for statement in statements))

    said = verified(trail, folder)
    assert f"第 {sequence} 条: " in said
    assert "操作留痕有 1 处不符" in said
    found = outside(exported(trail), folder)
    assert found[-1][0] == sequence
    if how != "inserted":  # a copy of another row is bad in more than one way
        assert f"第 {sequence} 条: {word}" in said
        assert found[-1] == (sequence, word)


@pytest.mark.committed
def test_a_chain_written_anew_is_found_against_the_head_outside(
    trail: Agency, folder: Path, tamper: Callable[..., None]
) -> None:
    sheet(trail, folder)
    with agency_scope(trail.pk):
        rows = list(AuditEntry.objects.order_by("sequence"))
    previous, statements = bytes(32), []
    for row in rows:
        name = "别人" if row.sequence == 3 else row.actor_name
        content = audit.content_of({**vars(row), "actor_name": name})
        digest = chain.content_hash(bytes(row.salt), content)
        made = chain.entry_hash(row.sequence, previous, digest)
        statements.append(
            f"{UPDATE} actor_name = '{name}', content_hash = '\\x{digest.hex()}',"
            f" previous_hash = '\\x{previous.hex()}', hash = '\\x{made.hex()}'"
            f" WHERE id = {row.pk}"
        )
        previous = made
    head = "UPDATE agency_audithead SET hash = '\\x{}' WHERE agency_id = {}"

    tamper(*statements, head.format(previous.hex(), trail.pk))

    with agency_scope(trail.pk):
        assert audit.first_bad_sequence() is None, "the forger did his work well"
    assert "第 6 条: rewritten (自第 1 条起)" in verified(trail, folder)
    assert (6, "rewritten") in outside(exported(trail), folder)


def head_of(trail: Agency, *, day: dt.date, digest: bytes | None = None) -> bytes:
    """A line of a sheet: the chain's present end as it is signed, or another."""
    signer = SigningKey.parse(KEY)
    with agency_scope(trail.pk):
        head = heads.signed_end(signer, trail.pk, day=day, at=NOW)
    head.hash = digest or head.hash
    head.signature = signer.sign(heads.fields_of(head))
    return heads.line_of(head)


@pytest.mark.parametrize("days", [(9, 10), (10, 9)])
def test_two_heads_of_one_sequence_that_differ_are_found_by_both(
    trail: Agency, folder: Path, days: tuple[int, int]
) -> None:
    """A quiet chain was written anew between two signatures: the later head fits, the first not."""
    for day, digest in zip(days, (None, b"x" * 32), strict=True):
        file = folder / f"heads-2026-11-{day:02}.jsonl"
        file.write_bytes(head_of(trail, day=NOW.date().replace(day=day), digest=digest))

    assert "第 6 条: rewritten (自第 1 条起)" in verified(trail, folder)
    assert outside(exported(trail), folder) == [(6, "rewritten")]


def test_a_new_audit_key_leaves_what_the_old_one_signed_as_good_as_before(
    trail: Agency, folder: Path, settings: Any
) -> None:
    heads.daily(now=NOW)
    old, new = SigningKey.parse(KEY), SigningKey.generate()
    settings.AUDIT_KEY = new
    public = [SigningKey.parse(new).public, old.public]
    with pytest.raises(heads.HeadsFailed, match=f"{old.key_id}: 以前的公钥未知"):
        heads.daily(now=NOW + dt.timedelta(days=1))

    settings.AUDIT_FORMER_KEYS = [old.public, SigningKey.parse(SigningKey.generate()).public]
    heads.daily(now=NOW + dt.timedelta(days=1))

    assert "6 条相符, 签名证明到第 6 条" in verified(trail, folder)
    lines, sheets = exported(trail), qingka_verify.read_heads([str(folder)])
    assert json.loads(lines[0])["former_keys"] == [old.public]  # no key that signed nothing here
    for keys in ([], public):
        report = qingka_verify.check(lines, sheets, keys)
        assert (report.faults, report.proven) == ([], 6)
    assert (6, "forged_head") in qingka_verify.check(lines, sheets, public[:1]).faults


def test_the_page_of_the_export_shows_every_key(
    login: Login, owner: Person, settings: Any, folder: Path
) -> None:
    settings.AUDIT_FORMER_KEYS = [SigningKey.parse(SigningKey.generate()).public]
    page = login(owner).get("/audit/export").content.decode()
    for public in heads.public_keys():
        assert public.replace("+", "&#x2B;") in page or public in page


def test_the_verifier_takes_several_keys(
    trail: Agency, folder: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    heads.daily(now=NOW)
    old, settings.AUDIT_KEY = SigningKey.parse(KEY).public, SigningKey.generate()
    settings.AUDIT_FORMER_KEYS = [old]
    (folder / "export").write_text("\n".join(exported(trail)))
    keys = [f"--key={public}" for public in heads.public_keys()]
    assert qingka_verify.main([str(folder / "export"), *keys]) == 0
    assert "签名证明到第 6 条" in capsys.readouterr().out


def test_a_forged_head_is_found_by_both(trail: Agency, folder: Path) -> None:
    sheet(trail, folder)
    file = folder / "heads-2026-11-09.jsonl"
    file.write_text(file.read_text().replace('"sequence":6', '"sequence":5'))

    assert f"agency:{trail.pk} 第 5 条: forged_head" in verified(trail, folder)
    assert outside(exported(trail), folder) == [(5, "forged_head")]


ROLES = ("app", "lookup", "owner", "reader")


@pytest.mark.parametrize("role", [f"qingka_{name}" for name in ROLES])
@pytest.mark.parametrize("table", ["agency_auditentry", "agency_signedhead"])
@pytest.mark.parametrize("what", ["UPDATE {} SET sequence = 9", "DELETE FROM {}", "TRUNCATE {}"])
def test_every_role_is_refused_to_change_the_trail(
    postgres: EmbeddedPostgres, django_db_setup: None, role: str, table: str, what: str
) -> None:
    with psycopg.connect(postgres.superuser_url(), dbname="qingka") as conn:
        known = conn.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'qingka%'")
        assert {name for (name,) in known} == {f"qingka_{name}" for name in ROLES}
        # With row-level security aside: what is refused is the change, not the sight of the row.
        for walled in ("agency_auditentry", "agency_audithead"):
            conn.execute(f"ALTER TABLE {walled} NO FORCE ROW LEVEL SECURITY".encode())
        conn.execute(
            "INSERT INTO agency_signedhead (day, agency_id, sequence, hash, at, key, signature)"
            " VALUES ('2020-01-01', 0, 1, '', now(), '', '')"
        )
        conn.execute(
            "INSERT INTO agency_auditentry (agency_id, sequence, at, actor_kind, actor_name,"
            " plan, plan_changed_by, action, object_type, object_name, data, request_id, salt,"
            " content_hash, previous_hash, hash) VALUES (0, 999999, now(), '', '', '', '', '',"
            " '', '', '{}', '', '', '', '', '')"
        )
        conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        conn.execute("SELECT set_config('qingka.agency', '0', true)")
        conn.execute(f"SET LOCAL ROLE {role}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(what.format(table).encode())
        conn.rollback()


def test_the_day_is_signed_once_and_reaches_every_place(
    trail: Agency, folder: Path, settings: Any
) -> None:
    settings.AUDIT_PLACES += ",mailto:keep@example.cn"
    heads.daily(now=NOW)
    heads.daily(now=NOW)

    file = folder / "heads-2026-11-09.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert f"agency:{trail.pk}" in {line["chain"] for line in lines}
    key = SigningKey.parse(KEY)
    assert all(qingka_verify.head_is_genuine(line, [key.public]) for line in lines)
    assert [len(message.attachments) for message in mail.outbox] == [1]
    assert HeadHandOver.objects.filter(day=NOW.date()).count() == 2
    assert [path.name for path in folder.iterdir()] == [file.name]


def test_a_place_that_fails_is_loud_and_is_tried_again(
    trail: Agency, folder: Path, settings: Any
) -> None:
    settings.AUDIT_PLACES = f"file:{folder}/later"
    with pytest.raises(heads.HeadsFailed, match="later"):
        heads.daily(now=NOW)
    with agency_scope(PLATFORM):
        assert AuditEntry.objects.filter(action=Action.HEADS_FAILED).exists()

    (folder / "later").mkdir()
    heads.daily(now=NOW + dt.timedelta(days=1))

    assert sorted(path.name for path in (folder / "later").iterdir()) == [
        "heads-2026-11-09.jsonl",
        "heads-2026-11-10.jsonl",
    ]


def test_a_place_is_never_overwritten(trail: Agency, folder: Path) -> None:
    file = folder / "heads-2026-11-09.jsonl"
    file.write_text("other")
    with pytest.raises(heads.HeadsFailed, match="内容不同"):
        heads.daily(now=NOW)
    assert file.read_text() == "other"


def test_a_storage_of_djangos_settings_is_a_place(
    trail: Agency, folder: Path, settings: Any
) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "heads": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": folder},
        },
    }
    settings.AUDIT_PLACES = "storage:heads"
    heads.daily(now=NOW)
    assert (folder / "heads-2026-11-09.jsonl").read_bytes() == heads.sheet_of(NOW.date())


def test_a_chain_that_lost_what_was_signed_is_not_signed_again(trail: Agency, folder: Path) -> None:
    SignedHead.objects.create(
        agency=trail, day=NOW.date() - dt.timedelta(days=1), sequence=3, hash=b"x", at=NOW
    )
    with pytest.raises(heads.HeadsFailed, match=f"agency:{trail.pk}"):
        heads.daily(now=NOW)
    assert not SignedHead.objects.filter(agency=trail, day=NOW.date()).exists()


def test_an_extract_shows_one_company_hides_the_others_and_verifies(
    trail: Agency, folder: Path
) -> None:
    lines = exported(trail, company_id=1)
    entries = [line for line in map(json.loads, lines) if line["type"] == "entry"]

    assert [line["sequence"] for line in entries if "content" in line] == [3, 5]
    assert all("salt" not in line for line in entries if "content" not in line)
    assert "COMPANY" not in lines[-1].upper()
    report = qingka_verify.check(lines)
    assert (report.faults, report.entries, report.shown, report.proven) == ([], 6, 2, 6)


def test_the_verifier_runs_alone_in_an_empty_folder(trail: Agency, folder: Path) -> None:
    shutil.copy(qingka_verify.__file__, folder / "v.py")
    good = "\n".join(exported(trail))
    (folder / "good").write_text(good)
    (folder / "bad").write_text(good.replace('"n":2', '"n":9'))

    def run(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "v.py", name],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )

    assert (run("good").returncode, run("bad").returncode, run("none").returncode) == (0, 1, 2)
    assert "第 4 条: 内容被改动" in run("bad").stdout


def test_the_owner_exports_and_it_is_recorded(
    login: Login, owner: Person, supervisor: Person, agency: Agency, make_company: MakeCompany
) -> None:
    company = make_company()
    client = login(owner)
    assert "整个机构" in client.get("/audit/export").content.decode()

    answer = client.post("/audit/export", {"company": company.pk})

    body = b"".join(answer.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    assert qingka_verify.check(body).faults == []
    assert "audit.exported" in body[-1]
    assert login(supervisor).get("/audit/export").status_code == 403
    assert login(supervisor).get("/audit/qingka_verify.py").status_code == 403
    assert b"qingka-verify" in client.get("/audit/qingka_verify.py").content


def test_another_agencys_client_cannot_be_exported(
    login: Login, owner: Person, other_agency: Agency, make_company: MakeCompany
) -> None:
    foreign = make_company(of=other_agency)
    answer = login(owner).post("/audit/export", {"company": foreign.pk})
    assert foreign.name not in answer.content.decode()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CONTENT = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT, max_size=3)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["content", "hash", "previous", "drop", "twice", "swap", "sequence"]),
        st.integers(0, 7),
    ),
    max_size=2,
)


#: Heads besides the genuine one of the end: how far from the end, and whether with the hash that
#: stood there; before it and after it, several of one sequence.
MORE_HEADS = st.lists(st.tuples(st.integers(-1, 2), st.booleans()), max_size=3)


@given(
    st.lists(st.tuples(CONTENT, st.binary(min_size=16, max_size=16)), max_size=8),
    CHANGES,
    MORE_HEADS,
    st.booleans(),
)
def test_both_implementations_agree_on_any_chain_and_any_tampering(
    made: list[tuple[dict[str, Any], bytes]],
    changes: list[tuple[str, int]],
    more: list[tuple[int, bool]],
    end_first: bool,
) -> None:
    links, previous = [], chain.BEFORE_FIRST
    for number, (content, salt) in enumerate(made, 1):
        digest = chain.content_hash(salt, content)
        after = chain.entry_hash(number, previous, digest)
        hidden = salt[0] % 2 == 1
        shown = (None, None) if hidden else (salt, content)
        links.append(chain.Link(number, after, digest, previous, *shown))
        previous = after
    end = chain.End(len(links), previous)
    stood = {link.sequence: link.hash for link in links}
    places = [(max(end.sequence - back, 0), true) for back, true in more]
    ends = [chain.End(at, stood.get(at, b"") if true else b"x" * 32) for at, true in places]
    ends.insert(0 if end_first else len(ends), end)
    for kind, place in changes:
        _tampered(links, kind, place)

    finding = chain.walk(links, heads=ends).finding

    key = SigningKey.parse(KEY)
    lines: list[dict[str, Any]] = [
        {"type": "trail", "format": 1, "chain": "x", "public_key": key.public}
    ]
    for end in ends:
        head: dict[str, Any] = {"chain": "x", "day": "d", "at": "t", "key": key.key_id}
        head |= {"sequence": end.sequence, "hash": end.hash.hex()}
        head["signature"] = base64.b64encode(key.sign(head)).decode()
        lines.append({"type": "head", **head})
    lines += map(_line, links)
    faults = qingka_verify.check(map(json.dumps, lines)).faults
    assert faults == ([(finding.sequence, str(finding.fault))] if finding else [])


def _line(link: chain.Link) -> dict[str, Any]:
    line: dict[str, Any] = {"type": "entry", "sequence": link.sequence, "hash": link.hash.hex()}
    line |= {"previous": link.previous.hex(), "content_hash": link.content_hash.hex()}
    if link.content is not None and link.salt is not None:
        line |= {"salt": link.salt.hex(), "content": link.content}
    return line


def _tampered(links: list[chain.Link], kind: str, place: int) -> None:
    if not links:
        return
    place %= len(links)
    old = links[place]
    values = [old.sequence, old.hash, old.content_hash, old.previous, old.salt, old.content]
    match kind:
        case "drop":
            del links[place]
            return
        case "twice":
            links.insert(place, old)
            return
        case "swap":
            links[place], links[-1] = links[-1], links[place]
            return
        case "content":
            values[5] = None if old.content is None else {**old.content, "!": 1}
        case "hash":
            values[1] = bytes(32)
        case "previous":
            values[3] = b"\1" * 32
        case _:
            values[0] = old.sequence + 1
    links[place] = chain.Link(*values)  # type: ignore[arg-type]
