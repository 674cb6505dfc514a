"""The bureau's business XML: what is built can be read, and nothing that arrives can hurt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearing.bureau import messages
from clearing.bureau.messages import SIZE_LIMIT, Operation, Reply
from clearing.bureau.port import DiskAddress, Filing
from clearing.bureau.refusals import Refusal, is_success, refusal
from devices.drivers.contract import ClearRequest, ReportPackage, Unit
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

DISK = DiskAddress("A1B2C3D4E5F60718", "91420106MA05AMP1XY", 0)
FEBRUARY = Month(2026, 2)
ROLLS = Unit(("025",))
BOTH = Unit(("004", "007"))
HEAD = b'<?xml version="1.0" encoding="gbk"?>\n'

XML_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")
).map(str.strip)


def answer(inner: str, operation: str = "QLJS") -> bytes:
    return HEAD + (
        f'<business id="{operation}" comment="x"><body yylxdm="1"><output>{inner}</output></body>'
        "</business>"
    ).encode("gbk")


def refused(data: bytes, operation: Operation = Operation.CLEAR_DATA) -> Failure:
    with pytest.raises(Failure) as caught:
        messages.parse_reply(data, operation)
    assert caught.value.code is Code.BUREAU_GARBLED
    assert caught.value.detail
    return caught.value


class TestRequests:
    def test_a_report_reads_back_as_it_was_built(self) -> None:
        package = ReportPackage(
            BOTH, FEBRUARY, {"sq": "20260201000000" + "20260228235959", "fphz": "0A0B", "qtxx": ""}
        )
        request = messages.report_request(DISK, package)
        assert messages.parse_request(messages.build_request(request)) == request
        assert request.fields["sq"] == "2026020100000020260228235959"
        assert request.unit == BOTH

    def test_a_report_without_a_period_of_its_own_is_given_one(self) -> None:
        request = messages.report_request(DISK, ReportPackage(ROLLS, FEBRUARY, {"fphz": "00"}))
        assert request.fields == {"sq": "202602", "fphz": "00"}

    def test_the_other_three_read_back_as_they_were_built(self) -> None:
        for request in (
            messages.clear_data_request(DISK, ClearRequest(ROLLS, {"qtxx": "20260301"}), FEBRUARY),
            messages.confirm_request(DISK, BOTH, FEBRUARY),
            messages.status_request(DISK, FEBRUARY),
        ):
            assert messages.parse_request(messages.build_request(request)) == request

    def test_the_document_is_the_one_of_the_interface(self) -> None:
        request = messages.clear_data_request(DISK, ClearRequest(BOTH, {"qtxx": "x"}), FEBRUARY)
        assert messages.build_request(request) == HEAD + (
            '<business id="QLJS" comment="清零解锁"><body yylxdm="1"><input>'
            "<group><fplxdm>004007</fplxdm><qtxx>x</qtxx><sq>202602</sq></group>"
            f"<skph>{DISK.device_no}</skph><nsrsbh>{DISK.tax_id}</nsrsbh><kpjh>0</kpjh>"
            "</input></body></business>"
        ).encode("gbk")

    @pytest.mark.parametrize(
        ("sq", "period"),
        [
            ("202602", "2026-02"),
            ("2026020120260228", "2026-02"),
            ("2026020100000020260228235959", "2026-02"),
            ("2026020100000020260301000000", "2026-02"),  # counts to the day after
            ("2025120100000020260228235959", "2026-02"),  # uncleared months before it
        ],
    )
    def test_every_form_of_a_period_is_understood(self, sq: str, period: str) -> None:
        data = messages.build_request(
            messages.report_request(DISK, ReportPackage(ROLLS, FEBRUARY, {"sq": sq}))
        )
        assert str(messages.parse_request(data).period) == period

    @pytest.mark.parametrize("sq", ["", "2026", "202613", "20260230" * 2, "０２０２６２", "x" * 28])
    def test_what_is_no_period_is_garbled(self, sq: str) -> None:
        data = messages.build_request(
            messages.report_request(DISK, ReportPackage(ROLLS, FEBRUARY, {"sq": sq}))
        )
        with pytest.raises(Failure) as caught:
            messages.parse_request(data)
        assert caught.value.code is Code.BUREAU_GARBLED

    @pytest.mark.parametrize(
        "fields",
        [
            {"fphz": "a\x00b"},
            {"a b": "1"},
            {"group": "1"},
            {"<x>": "1"},
            {"fphz": "0" * SIZE_LIMIT},
        ],
    )
    def test_what_cannot_be_written_is_the_devices_mistake(self, fields: dict[str, str]) -> None:
        request = messages.report_request(DISK, ReportPackage(ROLLS, FEBRUARY, fields))
        with pytest.raises(Failure) as caught:
            messages.build_request(request)
        assert caught.value.code is Code.DEVICE_GARBLED

    @given(st.dictionaries(st.from_regex(r"f[a-z]{0,8}", fullmatch=True), XML_TEXT, max_size=5))
    def test_any_text_survives_the_way(self, fields: dict[str, str]) -> None:
        fields = {name: text for name, text in fields.items() if name != "fplxdm"}
        request = messages.report_request(DISK, ReportPackage(ROLLS, FEBRUARY, fields))
        assert messages.parse_request(messages.build_request(request)).fields == request.fields

    @given(st.binary(max_size=400))
    def test_no_bytes_crash_the_bureaus_side(self, data: bytes) -> None:
        for document in (data, HEAD + data, answer("").replace(b"output", b"input") + data):
            with pytest.raises(Failure) as caught:
                messages.parse_request(document)
            assert caught.value.code is Code.BUREAU_GARBLED


class TestReplies:
    def test_a_reply_reads_back_as_it_was_built(self) -> None:
        reply = Reply(
            Operation.CLEAR_DATA,
            "0000",
            "下发成功",
            {"skph": DISK.device_no},
            ({"fplxdm": "025", "fpjkmw": "AB", "returncode": "0", "returnmsg": "㐂 & <ok>"},),
        )
        assert messages.parse_reply(messages.build_reply(reply), Operation.CLEAR_DATA) == reply

    @pytest.mark.parametrize("code", ["0", "00", "0000", "00000000"])
    def test_zeros_only_are_success(self, code: str) -> None:
        assert is_success(code)
        data = answer(f"<group><fplxdm>025</fplxdm></group><returncode>{code}</returncode>")
        assert messages.settled(messages.parse_reply(data, Operation.CLEAR_DATA), ROLLS) == {}

    @pytest.mark.parametrize("code", ["", "1", "0001", "000a", "O", "\u0660", "0 0", "-0"])
    def test_nothing_else_is_success(self, code: str) -> None:
        assert not is_success(code)

    GARBLED = {
        "empty": b"",
        "no declaration": answer("<returncode>0</returncode>").removeprefix(HEAD),
        "utf-8": b'<?xml version="1.0" encoding="utf-8"?>' + answer("")[len(HEAD) :],
        "not gbk": HEAD + b"<business>\xff\xff</business>",
        "cut short": answer("<returncode>0</returncode>")[:-5],
        "twice": answer("<returncode>0</returncode>") * 2,
        "another id": answer("<returncode>0</returncode>", "WLCB"),
        "another document": HEAD + b"<html/>",
        "no output": answer("").replace(b"output", b"input"),
        "two outputs": answer("<returncode>0</returncode></output><output>"),
        "no code": answer("<returnmsg>ok</returnmsg>"),
        "an empty code": answer("<returncode/>"),
        "two codes": answer("<returncode>0</returncode><returncode>1</returncode>"),
        "a code that is a page": answer(f"<returncode>{'9' * 500}</returncode>"),
        "a group with an empty code": answer(
            "<group><returncode/></group><returncode>0</returncode>"
        ),
        "an entity": answer("<returncode>&x;</returncode>"),
        "deep": answer("<a>" * 5000 + "</a>" * 5000 + "<returncode>0</returncode>"),
    }

    @pytest.mark.parametrize("data", GARBLED.values(), ids=GARBLED.keys())
    def test_what_is_no_message_is_garbled(self, data: bytes) -> None:
        refused(data)

    def test_a_reply_of_just_the_limit_is_read_and_one_byte_more_is_not(self) -> None:
        def padded(size: int) -> bytes:
            frame = answer("<returncode>0</returncode><returnmsg></returnmsg>")
            return frame.replace(
                b"></returnmsg>", b">" + b"x" * (size - len(frame)) + b"</returnmsg>"
            )

        assert len(padded(SIZE_LIMIT)) == SIZE_LIMIT
        assert messages.parse_reply(padded(SIZE_LIMIT), Operation.CLEAR_DATA).code == "0"
        refused(padded(SIZE_LIMIT + 1))

    def test_a_document_type_is_refused_before_it_is_read(self) -> None:
        inner = '<!DOCTYPE b [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
        data = answer("<returncode>&e;</returncode>").replace(HEAD, HEAD + inner.encode())
        assert "DTD" in refused(data).detail

    @given(st.binary(max_size=400))
    def test_no_bytes_crash_the_session(self, data: bytes) -> None:
        for document in (data, HEAD + data, answer("")[:-20] + data):
            for operation in Operation:
                with pytest.raises(Failure) as caught:
                    messages.parse_reply(document, operation)
                assert caught.value.code is Code.BUREAU_GARBLED

    @given(st.data())
    def test_no_single_wrong_byte_crashes_the_session(self, data: st.DataObject) -> None:
        good = bytearray(
            answer(
                "<group><fplxdm>025</fplxdm><fpjkmw>AB</fpjkmw></group><returncode>0</returncode>"
            )
        )
        at = data.draw(st.integers(0, len(good) - 1))
        good[at] = data.draw(st.integers(0, 255))
        try:
            messages.clear_data_of(messages.parse_reply(bytes(good), Operation.CLEAR_DATA), ROLLS)
        except Failure as failure:
            assert failure.code in (Code.BUREAU_GARBLED, Code.BUREAU_REFUSED)


class TestMeaning:
    @pytest.mark.parametrize("known", Refusal, ids=lambda known: known.name)
    def test_every_known_code_has_its_meaning_whatever_the_text(self, known: Refusal) -> None:
        failure = refusal(known.raw_code, "别的说法")
        assert (failure.code, failure.raw_code, failure.raw_text) == (
            known.code,
            known.raw_code,
            "别的说法",
        )

    def test_no_code_stands_in_the_table_twice_and_none_is_a_success(self) -> None:
        codes = [known.raw_code for known in Refusal]
        assert len(set(codes)) == len(codes)
        assert not any(is_success(code) for code in codes)

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("税控设备未抄报, 请先抄报", Code.NOT_REPORTED),
            ("一窗式比对失败(2)", Code.COMPARISON_FAILED),
            ("当前属期已清卡", Code.ALREADY_CLEARED),
            ("请联系主管税务机关", Code.BUREAU_REFUSED),
            ("", Code.BUREAU_REFUSED),
        ],
    )
    def test_an_unknown_code_is_recognised_by_its_text_or_kept_raw(
        self, text: str, code: Code
    ) -> None:
        failure = refusal("-960012345", text)
        assert (failure.code, failure.raw_code, failure.raw_text) == (code, "-960012345", text)

    def test_a_long_text_is_cut(self) -> None:
        assert len(refusal("7", "长" * 5000).raw_text) == 200

    @pytest.mark.parametrize(
        "inner",
        [
            "<group><fplxdm>025</fplxdm><returncode>9101</returncode></group><returncode>0</returncode>",
            "<group><fplxdm>025</fplxdm></group><returncode>9101</returncode>",
            "<returncode>9101</returncode>",
        ],
    )
    def test_a_refusal_counts_in_the_group_as_in_the_whole(self, inner: str) -> None:
        reply = messages.parse_reply(answer(inner), Operation.CLEAR_DATA)
        with pytest.raises(Failure) as caught:
            messages.settled(reply, ROLLS)
        assert caught.value.code is Code.NOT_REPORTED

    @pytest.mark.parametrize(
        "inner",
        [
            "",
            "<group><fplxdm>004</fplxdm><fpjkmw>AB</fpjkmw></group>",
            "<group><fplxdm>025</fplxdm></group>",
            "<group><fplxdm>025</fplxdm><fpjkmw/></group>",
            "<group><fplxdm>025</fplxdm><fpjkmw>A</fpjkmw></group>" * 2,
        ],
    )
    def test_a_success_without_our_clear_data_is_garbled(self, inner: str) -> None:
        reply = messages.parse_reply(
            answer(inner + "<returncode>0</returncode>"), Operation.CLEAR_DATA
        )
        with pytest.raises(Failure) as caught:
            messages.clear_data_of(reply, ROLLS)
        assert caught.value.code is Code.BUREAU_GARBLED

    def test_clear_data_are_passed_on_unread(self) -> None:
        reply = messages.parse_reply(
            answer(
                "<group><fplxdm>025</fplxdm><fpjkmw>不是十六进制</fpjkmw><szjkmw>01</szjkmw>"
                "<returncode>00</returncode></group><returncode>0</returncode>"
            ),
            Operation.CLEAR_DATA,
        )
        data = messages.clear_data_of(reply, ROLLS)
        assert data.fields == {"fpjkmw": "不是十六进制", "szjkmw": "01"}

    @pytest.mark.parametrize(
        ("filed", "compared", "filing"),
        [
            *((f.value, "none", f) for f in Filing),
            ("filed", "passed", Filing.FILED),
            ("filed", "failed", Filing.COMPARISON_FAILED),
            ("something new", "none", Filing.UNKNOWN),
        ],
    )
    def test_a_status_says_where_the_return_stands(
        self, filed: str, compared: str, filing: Filing
    ) -> None:
        fields = {"reported": "1", "filed": filed, "compared": compared, "cleared": "0"}
        status = messages.status_of(Reply(Operation.STATUS, "0", "", fields))
        assert (status.reported, status.filing, status.cleared) == (True, filing, False)
        assert status.raw["filed"] == filed

    @pytest.mark.parametrize("flag", ["", "2", "true"])
    def test_a_status_that_says_neither_yes_nor_no_is_garbled(self, flag: str) -> None:
        fields = {"reported": flag, "filed": "filed", "cleared": "0"}
        with pytest.raises(Failure) as caught:
            messages.status_of(Reply(Operation.STATUS, "0", "", fields))
        assert caught.value.code is Code.BUREAU_GARBLED
