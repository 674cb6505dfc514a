"""The machine API: presence, claim, intend, record, keep, renew, settle, release.

Thin: checks the shape of what came, calls a service, answers. Every answer carries the server's
time. 409 is an answer, not an accident: permission denied, the facts that came along are kept.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from typing import Any, ClassVar, cast

from django.contrib.auth.decorators import login_not_required
from django.utils.decorators import method_decorator
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from agency import audit
from agency.api.authentication import MachinePrincipal
from agency.audit import Actor
from agency.choices import ActorKind
from agency.clock import now as domain_now
from agency.clock import real_now
from clearing.choices import Stage
from clearing.services import claims, ends, grants
from clearing.services.facts import Fact
from clearing.wire import API_VERSION, FactKind, Outcome
from devices.models import Machine
from devices.protocol.failures import Failure
from devices.protocol.month import Month
from devices.services import SlotReport

# How often a machine reports its presence, in seconds.
PRESENCE_INTERVAL = 15
# Facts are accepted from a revoked machine for so long.
DELIVERY_AFTER_REVOKE = dt.timedelta(days=30)


class FactSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField(min_value=1)
    kind = serializers.ChoiceField(choices=[kind.value for kind in FactKind])
    # The wire's own name, although a serializer has an attribute of this name.
    data = serializers.DictField()  # type: ignore[assignment]


class WithFacts(serializers.Serializer[Any]):
    attempt = serializers.UUIDField()
    facts = FactSerializer(many=True, required=False, default=list)


class SlotSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=40)
    device_no = serializers.CharField(max_length=16, allow_blank=True, default="")
    tax_id = serializers.CharField(max_length=20, allow_blank=True, default="")
    kind = serializers.CharField(max_length=8, allow_blank=True, default="")
    terminal_no = serializers.IntegerField(
        min_value=0, max_value=999, allow_null=True, default=None
    )
    problem = serializers.CharField(max_length=32, allow_blank=True, default="")


class PresenceSerializer(serializers.Serializer[Any]):
    version = serializers.CharField(max_length=20)
    api = serializers.IntegerField()
    slots = SlotSerializer(many=True)

    def validate_slots(self, slots: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len({slot["name"] for slot in slots}) != len(slots):
            raise serializers.ValidationError("slot names repeat")
        return slots


class ClaimSerializer(serializers.Serializer[Any]):
    attempt = serializers.UUIDField()


def _month(value: str) -> Month:
    try:
        return Month.parse(value)
    except ValueError as error:
        raise serializers.ValidationError({"period": str(error)}) from None


class IntendSerializer(WithFacts):
    stage = serializers.ChoiceField(
        choices=[Stage.REPORT.value, Stage.UPLOAD.value, Stage.CLEAR.value]
    )
    unit = serializers.CharField(max_length=40)
    period = serializers.CharField(max_length=7)
    rolls_pin = serializers.BooleanField(default=False)


class KeepSerializer(WithFacts):
    period = serializers.CharField(max_length=7)
    sha256 = serializers.RegexField(r"^[0-9a-f]{64}$")
    content = serializers.CharField(max_length=4_000_000)

    def validate_content(self, value: str) -> bytes:
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise serializers.ValidationError("not base64") from None


class SettleSerializer(WithFacts):
    outcome = serializers.DictField()

    def validate_outcome(self, value: dict[str, Any]) -> Outcome:
        try:
            return Outcome.from_json(value)
        except (KeyError, TypeError, ValueError):
            raise serializers.ValidationError("not an outcome") from None


class ReleaseSerializer(WithFacts):
    detail = serializers.CharField(max_length=200, allow_blank=True, default="")


def access_own_machine(principal: MachinePrincipal) -> Machine:
    """The machine whose token it is; the scope is that of its agency."""
    return Machine.objects.select_related("agency").get(pk=principal.machine_id)


@method_decorator(login_not_required, name="dispatch")
class MachineView(APIView):
    """What all calls share: the machine, its name in the trail, the server's time in the answer."""

    serializer: ClassVar[type[serializers.Serializer[Any]]] = ClaimSerializer
    delivers = False  # a revoked machine may still make this call, to deliver facts

    def post(self, request: Request, **kwargs: Any) -> Response:
        machine = access_own_machine(cast(MachinePrincipal, request.user))
        revoked = machine.revoked_at
        if revoked and (not self.delivers or real_now() - revoked > DELIVERY_AFTER_REVOKE):
            return self._answer({"error": "machine_revoked"}, 403)
        form = self.serializer(data=request.data)
        form.is_valid(raise_exception=True)
        with audit.acting(Actor(ActorKind.MACHINE, machine.name, machine.pk)):
            try:
                body, status = self.handle(machine, form.validated_data, **kwargs)
            except grants.NotTheirs:
                return self._answer({"error": "not_found"}, 404)
            except Failure as failure:
                return self._answer({"error": failure.code.value, "detail": failure.detail}, 422)
        return self._answer(body, status)

    def handle(
        self, machine: Machine, data: dict[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], int]:
        raise AssertionError("each call has its own")  # pragma: no cover

    @staticmethod
    def _answer(body: dict[str, Any], status: int) -> Response:
        return Response(
            {"api": API_VERSION, "time": real_now().astimezone(dt.UTC).isoformat(), **body},
            status=status,
        )


def _facts(data: dict[str, Any]) -> list[Fact]:
    return [Fact(each["number"], FactKind(each["kind"]), each["data"]) for each in data["facts"]]


def _granted(grant: grants.Grant, body: dict[str, Any]) -> tuple[dict[str, Any], int]:
    if grant.denial is not None:
        return {"granted": False, "reason": grant.denial.value}, 409
    return body, 200


class PresenceView(MachineView):
    serializer = PresenceSerializer

    def handle(
        self, machine: Machine, data: dict[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], int]:
        if data["api"] not in {API_VERSION, API_VERSION - 1}:
            return {"error": "api_too_old", "wanted": API_VERSION}, 426
        runnable = claims.presence(
            machine=machine,
            slots=[SlotReport(**slot) for slot in data["slots"]],
            version=data["version"],
            now=real_now(),
        )
        return {
            "runnable": runnable,
            "parallel": machine.parallel,
            "interval": PRESENCE_INTERVAL,
        }, 200


class ClaimView(MachineView):
    serializer = ClaimSerializer

    def handle(
        self, machine: Machine, data: dict[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], int]:
        order = claims.claim(
            machine=machine, attempt_key=data["attempt"], now=domain_now(), real_now=real_now()
        )
        return {"order": order.to_json() if order is not None else None}, 200


class IntendView(MachineView):
    serializer = IntendSerializer
    delivers = True  # answers 409 revoked, and takes the facts

    def handle(
        self, machine: Machine, data: dict[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], int]:
        grant = grants.intend(
            machine=machine,
            run_id=kwargs["run_id"],
            attempt_key=data["attempt"],
            stage=Stage(data["stage"]),
            unit=data["unit"],
            period=_month(data["period"]),
            rolls_pin=data["rolls_pin"],
            facts=_facts(data),
            now=domain_now(),
            real_now=real_now(),
        )
        return _granted(grant, {"granted": True, "duration": grant.seconds})


class KeepView(MachineView):
    serializer = KeepSerializer
    delivers = True

    def handle(
        self, machine: Machine, data: dict[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], int]:
        grant = grants.keep(
            machine=machine,
            run_id=kwargs["run_id"],
            attempt_key=data["attempt"],
            period=_month(data["period"]),
            sha256=data["sha256"],
            content=data["content"],
            facts=_facts(data),
            real_now=real_now(),
        )
        return _granted(grant, {"kept": True, "sha256": data["sha256"]})


class RecordView(MachineView):
    serializer = WithFacts
    delivers = True

    def handle(
        self, machine: Machine, data: dict[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], int]:
        accepted = grants.record(
            machine=machine,
            run_id=kwargs["run_id"],
            attempt_key=data["attempt"],
            facts=_facts(data),
            real_now=real_now(),
        )
        return {"accepted": accepted}, 200


class RenewView(MachineView):
    serializer = WithFacts

    def handle(
        self, machine: Machine, data: dict[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], int]:
        grant = grants.renew(
            machine=machine,
            run_id=kwargs["run_id"],
            attempt_key=data["attempt"],
            real_now=real_now(),
        )
        return _granted(grant, {"lease": grant.seconds})


class SettleView(MachineView):
    serializer = SettleSerializer
    delivers = True

    def handle(
        self, machine: Machine, data: dict[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], int]:
        state = ends.settle(
            machine=machine,
            run_id=kwargs["run_id"],
            attempt_key=data["attempt"],
            outcome=data["outcome"],
            facts=_facts(data),
            real_now=real_now(),
        )
        return _ended(state)


class ReleaseView(MachineView):
    serializer = ReleaseSerializer
    delivers = True

    def handle(
        self, machine: Machine, data: dict[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], int]:
        state = ends.release(
            machine=machine,
            run_id=kwargs["run_id"],
            attempt_key=data["attempt"],
            facts=_facts(data),
            detail=data["detail"],
            real_now=real_now(),
        )
        return _ended(state)


def _ended(state: Any) -> tuple[dict[str, Any], int]:
    if state is None:
        return {"reason": "lease_lost"}, 409
    return {"state": state.value}, 200
