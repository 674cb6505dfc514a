"""The envelope: what is built can be read, and nothing that arrives can hurt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.protocol import envelope
from devices.protocol.envelope import SIZE_LIMIT
from devices.protocol.failures import Code, Failure

HEAD = b'<?xml version="1.0" encoding="gbk"?>\n'
CODES = [Code.DEVICE_GARBLED, Code.BUREAU_GARBLED]


@pytest.mark.parametrize("container", ["", "tjxx"])
def test_what_is_built_reads_back(container: str) -> None:
    groups = [{"zsfpfs": "1"}, {"zsfpfs": "2"}]
    data = envelope.build("TJXXCX", "统计", "output", {"a": "甲𠮷"}, groups, container=container)
    document = envelope.read(data, garbled=Code.DEVICE_GARBLED)
    assert document.id == "TJXXCX"
    assert document.content("output", container=container) == ({"a": "甲𠮷"}, groups)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<business/>",  # no declaration
        b'<?xml version="1.0" encoding="utf-8"?><business/>',
        HEAD + "<business>é</business>".encode(),  # not GBK
        HEAD + b"<business>",
        HEAD + b"<other/>",
        HEAD + b'<!DOCTYPE business [<!ENTITY a "b">]><business>&a;</business>',
        HEAD + b'<!DOCTYPE business SYSTEM "file:///etc/passwd"><business/>',
        HEAD + b"<business>&unknown;</business>",
        HEAD + b"<business><![CDATA[\x00]]></business>",
        HEAD + b"<business>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</business>",
        HEAD + b"<business>" + b" " * SIZE_LIMIT + b"</business>",
    ],
)
def test_what_is_no_document_is_refused_with_the_readers_code(data: bytes, code: Code) -> None:
    with pytest.raises(Failure) as caught:
        envelope.read(data, garbled=code).content("output")
    assert caught.value.code is code
    assert caught.value.detail


def test_a_field_told_twice_is_refused() -> None:
    data = HEAD + b"<business><body><output><a>1</a><a>2</a></output></body></business>"
    with pytest.raises(Failure):
        envelope.read(data, garbled=Code.DEVICE_GARBLED).content("output")


def test_a_text_that_cannot_be_written_is_not_in_the_error() -> None:
    for fields in ({"sksbkl": "GEHEIM\x00"}, {"sks bkl": "GEHEIM"}, {"a": "GEHEIM" * SIZE_LIMIT}):
        with pytest.raises(ValueError) as caught:
            envelope.build("SKPXXCX", "", "input", fields)
        assert "GEHEIM" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "ok"),
    [("0", True), ("00000000", True), ("", False), ("1", False), ("０", False), ("0 ", False)],
)
def test_success_is_zeros_only(code: str, ok: bool) -> None:
    assert envelope.is_success(code) is ok


@pytest.mark.parametrize(
    ("text", "types"),
    [("004", ("004",)), ("004007", ("004", "007")), ("", None), ("04", None), ("00a", None)],
)
def test_types_run_together_are_taken_apart(text: str, types: tuple[str, ...] | None) -> None:
    assert envelope.split_types(text) == types


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: HEAD + tail))
def test_no_bytes_make_it_crash(data: bytes) -> None:
    try:
        document = envelope.read(data, garbled=Code.DEVICE_GARBLED)
        document.content("output")
    except Failure as failure:
        assert failure.code is Code.DEVICE_GARBLED
