"""Enrolment: a reader machine exchanges its one-use code for its credentials.

The only call of the machine API without a token. A code that is wrong, used or over gets the same
404; guessing is bounded per address and altogether (``agency.throttle``).
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.utils.decorators import method_decorator
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from agency import audit, refusals, throttle
from agency.access import redeem
from agency.audit import SYSTEM
from agency.choices import Action
from agency.clock import real_now
from agency.models import Agency
from agency.scope import agency_scope
from devices.api import API_VERSION
from devices.broker import prefix_of
from devices.services import (
    Enrolled,
    EnrolmentRefused,
    NameTaken,
    broker_grant,
    code_hash,
    machine_enrol,
)

NO_BROKER = "none"


class EnrolSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(max_length=60)
    name = serializers.CharField(max_length=60, allow_blank=True, default="")
    version = serializers.CharField(max_length=20)
    api = serializers.IntegerField()


@method_decorator(login_not_required, name="dispatch")
class EnrolView(APIView):
    """200 with the credentials · 404 · 409 the name is taken, the code still good · 426 · 429."""

    authentication_classes = ()
    permission_classes = ()

    def post(self, request: Request) -> Response:
        form = EnrolSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        said = form.validated_data
        if said["api"] not in {API_VERSION, API_VERSION - 1}:
            return _answer({"error": "api_too_old", "wanted": API_VERSION}, 426)
        address = throttle.address_of(request._request)
        here = throttle.may_try(throttle.ENROL_FROM_ONE_PLACE, address)
        if not here or not throttle.may_try(throttle.ENROL_ALTOGETHER):
            return _answer({"error": "too_many"}, 429)
        found = redeem(code_hash(said["code"]))
        if found is None:
            refusals.machine_refused(Action.MACHINE_CODE_REFUSED, address=address)
            return _answer({"error": "not_found"}, 404)
        agency_id, code_id = found
        # Whoever happens to be signed in in this browser is not who acts here.
        with audit.acting(SYSTEM, request_id=str(uuid.uuid4())):
            try:
                with agency_scope(agency_id):
                    enrolled = machine_enrol(
                        code_id=code_id, host=said["name"], version=said["version"], now=real_now()
                    )
            except EnrolmentRefused:
                refusals.machine_refused(
                    Action.MACHINE_CODE_REFUSED, address=address, agency_id=agency_id
                )
                return _answer({"error": "not_found"}, 404)
            except NameTaken:
                return _answer({"error": "name_taken"}, 409)
            throttle.forget(throttle.ENROL_FROM_ONE_PLACE, address)
            return _answer(_credentials(agency_id, enrolled), 200)


def _credentials(agency_id: int, enrolled: Enrolled) -> dict[str, Any]:
    machine = enrolled.machine
    with agency_scope(agency_id):
        broker = broker_grant(machine)
    return {
        "token": enrolled.token,
        "broker": broker or NO_BROKER,
        "prefix": prefix_of(machine.broker_account) if broker else "",
        "agency": Agency.objects.values_list("name", flat=True).get(pk=agency_id),
        "machine": machine.name,
        "parallel": machine.parallel,
    }


def _answer(body: dict[str, Any], status: int) -> Response:
    answer = Response(
        {"api": API_VERSION, "time": real_now().astimezone(dt.UTC).isoformat(), **body},
        status=status,
    )
    answer["Cache-Control"] = "no-store"
    return answer
