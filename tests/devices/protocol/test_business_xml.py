"""Device documents: the interface's own form, no password in sight, and every answer judged."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.protocol import business_xml
from devices.protocol.business_answers import (
    ControlAnswer,
    Copied,
    DeviceInfo,
    DeviceNo,
    OtherInfo,
    Pending,
    Statistics,
)
from devices.protocol.business_xml import About, Answer, Caller, Operation
from devices.protocol.failures import Code, Failure

HEAD = b'<?xml version="1.0" encoding="gbk"?>\n'
SECRET = "Geheim-4711"
CALLER = Caller("661900000001", "91440101MA5CA1B2X7", SECRET)

REQUESTS = [
    business_xml.device_no_request("661900000001"),
    business_xml.info_request("661900000001", SECRET),
    business_xml.control_request(CALLER, "004"),
    business_xml.pending_request(CALLER, "004"),
    business_xml.other_request("661900000001", SECRET, About.COPY_TIME),
    business_xml.statistics_request(CALLER, "004", dt.date(2026, 2, 1), dt.date(2026, 2, 28)),
    business_xml.copy_request(CALLER, ("004", "007")),
    business_xml.write_request(CALLER, ("004", "007"), "0A", "0B"),
    business_xml.server_control_request("K1", "004"),
    business_xml.server_key_request(SECRET),
    business_xml.server_parameters_request("127.0.0.1", 8888, SECRET),
]


def test_every_operation_has_a_request_here() -> None:
    assert {request.operation for request in REQUESTS} == set(Operation)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: r.operation.id)
def test_a_request_reads_back_and_never_shows_its_password(
    request_: business_xml.Request,
) -> None:
    assert business_xml.parse_request(business_xml.build_request(request_)) == request_
    assert SECRET not in repr(request_) + str(request_) + repr(CALLER)


def test_the_document_is_the_one_of_the_interface() -> None:
    assert business_xml.build_request(business_xml.control_request(CALLER, "007")) == HEAD + (
        '<business id="JKSJCX" comment="监控数据查询"><body yylxdm="1"><input>'
        "<nsrsbh>91440101MA5CA1B2X7</nsrsbh><sksbbh>661900000001</sksbbh>"
        f"<sksbkl>{SECRET}</sksbkl><fplxdm>007</fplxdm></input></body></business>"
    ).encode("gbk")


def test_only_two_operations_change_a_disk() -> None:
    assert [op.id for op in Operation if op.changes] == ["SJCB", "JKHC"]


class TestAnswers:
    @pytest.mark.parametrize("operation", Operation)
    def test_an_answer_reads_back(self, operation: Operation) -> None:
        groups = ({"zsfpfs": "1"},) if operation is Operation.STATISTICS else ()
        answer = Answer(operation, "0000", "成功", {"fplxdm": "004"}, groups)
        assert business_xml.parse_answer(business_xml.build_answer(answer), operation) == answer

    def test_an_answer_to_another_question_is_garbled(self) -> None:
        data = business_xml.build_answer(Answer(Operation.INFO, "0", ""))
        with pytest.raises(Failure) as caught:
            business_xml.parse_answer(data, Operation.CONTROL)
        assert caught.value.code is Code.DEVICE_GARBLED

    @pytest.mark.parametrize("code", ["", "a b", "x" * 33, "成功"])
    def test_an_answer_without_a_code_is_garbled(self, code: str) -> None:
        data = business_xml.build_answer(Answer(Operation.INFO, code, ""))
        with pytest.raises(Failure):
            business_xml.parse_answer(data, Operation.INFO)

    @given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: HEAD + tail))
    def test_no_bytes_make_it_crash(self, data: bytes) -> None:
        for operation in Operation:
            with pytest.raises(Failure) as caught:
                business_xml.parse_answer(data, operation)
            assert caught.value.code is Code.DEVICE_GARBLED


class TestRefusals:
    @pytest.mark.parametrize(
        ("operation", "code", "text", "meaning", "in_doubt"),
        [
            (Operation.COPY, "250", "", Code.INVOICES_PENDING, False),
            (Operation.COPY, "3072", "", Code.NO_ANSWER, True),
            (Operation.INFO, "3072", "", Code.NO_ANSWER, False),
            (Operation.WRITE, "4001", "", Code.DISK_ABSENT, True),
            (Operation.WRITE, "987654", "谁也不知道", Code.DEVICE_REFUSED, True),
            (Operation.INFO, "987654", "", Code.DEVICE_REFUSED, False),
            (Operation.WRITE, "155", "", Code.CLEAR_DATA_MISMATCH, False),
            (Operation.WRITE, "09d118", "", Code.ALREADY_CLEARED, False),
            (Operation.WRITE, "99", "专票未抄报", Code.CERTIFICATE_INVALID, False),
            (Operation.WRITE, "9999", "专票未抄报", Code.OTHER_TYPE_OPEN, False),
            (Operation.WRITE, "9999", "时钟校准因子失效!", Code.DEVICE_CLOCK_WRONG, False),
        ],
    )
    def test_a_code_has_its_meaning_and_says_whether_the_disk_may_have_changed(
        self, operation: Operation, code: str, text: str, meaning: Code, in_doubt: bool
    ) -> None:
        failure = business_xml.refusal_of(Answer(operation, code, text))
        assert (failure.code, failure.outcome_unknown) == (meaning, in_doubt)
        assert (failure.raw_code, failure.raw_text) == (code, text)

    def test_the_tries_left_come_along(self) -> None:
        failure = business_xml.refusal_of(Answer(Operation.INFO, "09d1c2", ""))
        assert (failure.code, failure.tries_left) == (Code.PASSWORD_WRONG, 2)

    def test_a_long_text_is_cut(self) -> None:
        assert len(business_xml.refusal_of(Answer(Operation.INFO, "1", "长" * 999)).raw_text) == 200


class TestFields:
    def test_a_device_number_is_twelve_characters(self) -> None:
        for wrong in ("", "66190000000", "6619000000001", "66190000000é", "66190000000a"):
            with pytest.raises(Failure) as caught:
                DeviceNo.of(Answer(Operation.DEVICE_NO, "0", "", {"sksbbh": wrong}))
            assert (caught.value.code, caught.value.detail) == (Code.DEVICE_GARBLED, "sksbbh")
        marks = {"sksbbh": "661900000001", "qtxx": "PX,ZX"}
        found = DeviceNo.of(Answer(Operation.DEVICE_NO, "0", "", marks))
        assert (found.training, found.retired) == (True, True)

    def test_types_that_need_no_disk_are_left_out_and_each_type_stands_once(self) -> None:
        fields = {
            "sksbbh": "661900000001", "nsrsbh": "91440101MA5CA1B2X7",
            "fplxdm": "007004081007082", "kpjh": "2",
        }  # fmt: skip
        found = DeviceInfo.of(Answer(Operation.INFO, "0", "", fields))
        assert (found.types, found.terminal_no) == (("004", "007"), 2)
        for name, wrong in (("fplxdm", "0070"), ("nsrsbh", "<>"), ("kpjh", "-1")):
            with pytest.raises(Failure) as caught:
                DeviceInfo.of(Answer(Operation.INFO, "0", "", {**fields, name: wrong}))
            assert caught.value.detail == name

    @pytest.mark.parametrize(
        ("text", "fen"),
        [("0", 0), ("12", 1200), ("12.3", 1230), ("12.34", 1234), ("12.3400", 1234)],
    )
    def test_amounts_are_yuan(self, text: str, fen: int) -> None:
        fields = {"wscfpzs": "1", "wscfpljje": text}
        assert Pending.of(Answer(Operation.PENDING, "0", "", fields)).fen == fen

    @pytest.mark.parametrize("text", ["1,000.00", "1e3", "12.345", "１２", ".5", "--1", "nan"])
    def test_what_is_no_amount_is_garbled(self, text: str) -> None:
        fields = {"wscfpzs": "1", "wscfpljje": text}
        with pytest.raises(Failure):
            Pending.of(Answer(Operation.PENDING, "0", "", fields))

    def test_limits_are_told_as_far_as_the_disk_tells_them(self) -> None:
        fields = {"fplxdm": "004", "dzkpxe": "99999.99", "lxkpsc": "72", "zxbsrq": "00000000"}
        found = ControlAnswer.of(Answer(Operation.CONTROL, "0", "", fields), "004")
        assert found.limits == {"single": 99_999_99, "offline_hours": 72}
        assert found.last_reported_on is None
        with pytest.raises(Failure):
            ControlAnswer.of(Answer(Operation.CONTROL, "0", "", fields), "007")

    def test_statistics_are_summed_over_their_groups_without_sign(self) -> None:
        groups = (
            {"zsfpfs": "2", "zffpfs": "1", "fffpfs": "1", "zsfpljje": "10.00", "zsfpljse": "1.30"},
            {"fsfpfs": "1", "fsfpljje": "-5.00", "fsfpljse": "-0.65", "zsfpljje": ""},
        )
        found = Statistics.of(Answer(Operation.STATISTICS, "0", "", {}, groups))
        assert found == Statistics(2, 1, 2, 1000, 130, 500, 65)

    def test_a_summary_and_its_span_are_demanded(self) -> None:
        span = "2026020100000020260228235959"
        found = Copied.of(Answer(Operation.COPY, "0", "", {"sq": span, "fphz": "0A"}))
        assert found.last == "20260228235959"
        for fields in ({"sq": span}, {"fphz": "0A"}, {"sq": span[:-1], "fphz": "0A"}):
            with pytest.raises(Failure):
                Copied.of(Answer(Operation.COPY, "0", "", fields))
        with pytest.raises(Failure):
            OtherInfo.of(Answer(Operation.OTHER, "0", ""))

    @given(
        st.dictionaries(
            st.sampled_from([
                "sksbbh", "nsrsbh", "fplxdm", "kpjh", "wscfpzs", "wscfpljje", "sksbxx", "sq",
                "fphz", "dzkpxe", "lxkpsc", "zxbsrq", "zsfpfs", "zsfpljje",
            ]),
            st.text(max_size=30) | st.from_regex(r"[0-9.]{1,30}"),
        )
    )  # fmt: skip
    def test_no_fields_make_it_crash(self, fields: dict[str, str]) -> None:
        for operation in Operation:
            answer = Answer(operation, "0", "", fields, (fields,))
            for read in (DeviceNo.of, DeviceInfo.of, Pending.of, OtherInfo.of, Statistics.of,
                         Copied.of, lambda a: ControlAnswer.of(a, "004")):  # fmt: skip
                try:
                    read(answer)
                except Failure as failure:
                    assert failure.code is Code.DEVICE_GARBLED
