"""The envelope: what is built can be read, and nothing that arrives can hurt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

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


LAUGHS = "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMBS = {
    "billion laughs": f'<!DOCTYPE business [<!ENTITY a "ha">{LAUGHS}]><business>&i;</business>',
    "quadratic": f'<!DOCTYPE business [<!ENTITY a "{"x" * 200_000}">]>'
    f"<business>{'&a;' * 100_000}</business>",
    "external DTD": '<!DOCTYPE business SYSTEM "http://127.0.0.1:1/x.dtd"><business/>',
    "public DTD": '<!DOCTYPE business PUBLIC "-//x//y" "file:///etc/passwd"><business/>',
    "external entity": '<!DOCTYPE business [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    "<business>&a;</business>",
    "parameter entity": '<!DOCTYPE business [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>'
    "<business/>",
    "attribute default": '<!DOCTYPE business [<!ATTLIST business id CDATA "x">]><business/>',
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_document_with_a_dtd_is_refused_before_any_parser_sees_it(
    bomb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envelope, "parser", lambda: pytest.fail("a parser was made"))
    with pytest.raises(Failure, match="DTD"):
        envelope.read(HEAD + bomb.encode(), garbled=Code.DEVICE_GARBLED)


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_the_parser_alone_expands_nothing_and_fetches_nothing(
    bomb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection"))
    try:
        root = etree.fromstring(bomb.encode(), envelope.parser())
    except etree.XMLSyntaxError:
        return
    # A reference stays a reference.
    assert len(etree.tostring(root, with_tail=False)) < len(bomb)
    assert "root:" not in etree.tostring(root, encoding="unicode")


@pytest.mark.parametrize(
    "inner",
    [
        '<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"'
        ' parse="text"/>',
        '<?xml-stylesheet href="file:///etc/passwd" type="text/xsl"?>',
        "<!--" + "x" * 1000 + "-->",
    ],
    ids=["XInclude", "stylesheet", "comment"],
)
def test_nothing_in_a_document_is_carried_out(inner: str) -> None:
    data = f"<business><body><output>{inner}<a>1</a></output></body></business>"
    document = envelope.read(HEAD + data.encode(), garbled=Code.DEVICE_GARBLED)
    texts, groups = document.content("output")
    assert "root:" not in str(texts)
    assert (texts["a"], groups) == ("1", [])


@pytest.mark.parametrize(
    "body",
    [
        "<a>" * 300 + "</a>" * 300,
        f"<a>{'x' * SIZE_LIMIT}</a>",
        "<a " + " ".join(f'b{n}="1"' for n in range(150_000)) + "/>",
    ],
    ids=["depth", "text", "attributes"],
)
def test_depth_and_length_are_bounded(body: str) -> None:
    with pytest.raises(Failure):
        envelope.read(HEAD + f"<business>{body}</business>".encode(), garbled=Code.DEVICE_GARBLED)


def test_the_longest_document_that_is_taken_is_read_whole() -> None:
    text = "x" * (SIZE_LIMIT - 200)
    data = HEAD + f"<business><body><output><a>{text}</a></output></body></business>".encode()
    assert envelope.read(data, garbled=Code.DEVICE_GARBLED).content("output")[0] == {"a": text}


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: HEAD + tail))
def test_no_bytes_make_it_crash(data: bytes) -> None:
    try:
        document = envelope.read(data, garbled=Code.DEVICE_GARBLED)
        document.content("output")
    except Failure as failure:
        assert failure.code is Code.DEVICE_GARBLED
