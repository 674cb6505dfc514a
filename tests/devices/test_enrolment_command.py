"""``manage.py enrolment_code``: a code without the pages."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from agency.models import Agency
from agency.scope import agency_scope
from devices.models import EnrolmentCode
from devices.services import code_hash


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("enrolment_code", *arguments, stdout=out)
    return out.getvalue().strip()


def test_it_prints_the_code_or_the_whole_command(agency: Agency) -> None:
    code = run("--agency", str(agency.pk), "--name", "前台", "--https-only", "--simulated")
    command = run("--agency", str(agency.pk), "--name", "机房", "--server", "https://q.example")

    assert command.startswith("qingka-reader enroll ")
    assert command.endswith(" --server https://q.example")
    with agency_scope(agency.pk):
        first, second = EnrolmentCode.objects.order_by("pk")
        assert bytes(first.code_hash) == code_hash(code)
        assert (first.https_only, first.simulated, first.created_by) == (True, True, "manage.py")
        assert bytes(second.code_hash) == code_hash(command.split()[2])


def test_it_refuses_what_the_page_would_refuse(agency: Agency) -> None:
    agency.practice = False
    agency.save()
    for arguments, sentence in (
        (("--agency", "999999", "--name", "x"), "没有编号"),
        (("--agency", str(agency.pk), "--name", " "), "请填写"),
        (("--agency", str(agency.pk), "--name", "x", "--parallel", "99"), "同时办理数"),
        (("--agency", str(agency.pk), "--name", "x", "--simulated"), "练习机构"),
    ):
        with pytest.raises(CommandError, match=sentence):
            run(*arguments)
