"""qingka-verify: checks an export of 清卡台's audit trail (操作留痕) without 清卡台.

Needs Python 3.11 and the package cryptography, nothing else; may be copied anywhere.

    python qingka_verify.py EXPORT.jsonl [--heads FILE-OR-FOLDER …] [--key BASE64 …]

The format, version 1. UTF-8, one JSON object a line, no name twice in an object:

  {"type": "trail", "format": 1, "chain", "public_key", "former_keys": […]}         the first line
  {"type": "head", "chain", "day", "sequence", "hash", "at", "key", "signature"}    then the heads
  {"type": "entry", "sequence", "previous", "content_hash", "hash"                  then all entries
                    and, where it is shown, "salt" and "content"}

salt and hashes are hex. Canonical JSON: keys sorted, no spaces, nothing escaped but what JSON
demands, UTF-8; content holds no numbers with fractions.
  content_hash = SHA-256(salt ‖ canonical JSON of content)
  hash         = SHA-256(sequence, 8 bytes, most significant first ‖ previous ‖ content_hash)
  previous     = the hash of the entry before; before the first, 32 zero bytes
  signature    = base64, Ed25519 over "qingka head 1", a line feed, and the canonical JSON of chain,
                 day, sequence, hash, at, key; key = the first 16 hex digits of the SHA-256 of the
                 32 public bytes, which are given as base64.
A head says: after so many entries the last hash was this. Heads kept elsewhere (the daily sheets)
show that nothing was cut off or written anew since; a key that you hold yourself shows who signed.
former_keys are public keys of before, that signed heads of this file. Whoever gives --key gives one
for each key that signed: the present one and those of before.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WORDS = {
    "unreadable": "此行读不懂 (a line that cannot be read)",
    "changed": "内容被改动 (changed)",
    "missing": "缺少记录 (entries are missing)",
    "doubled": "序号重复 (a sequence stands twice)",
    "out_of_place": "不接前一条: 插入、调换或重写 (inserted, moved or rewritten)",
    "cut_off": "末尾被截去 (the tail was cut off)",
    "rewritten": "与签名的记录不符, 此前被重写 (rewritten since it was signed)",
    "forged_head": "签名无效 (a head that was not signed by the key)",
}


class Unreadable(ValueError):
    """A line that is not of the format."""


@dataclass
class Report:
    """What was found. ``faults``: (sequence, word); ``proven``: the last sequence that a genuine
    head covers; ``own_key``: only the keys of the file itself were asked."""

    faults: list[tuple[int, str]] = field(default_factory=list)
    entries: int = 0
    shown: int = 0
    proven: int = 0
    chain: str = ""
    own_key: bool = False


def _object(text: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Unreadable("a name stands twice")
        return found

    found = json.loads(text, object_pairs_hook=unique)
    if not isinstance(found, dict):
        raise Unreadable("not an object")
    return found


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


def _key_id(public: str) -> str:
    return hashlib.sha256(base64.b64decode(public, validate=True)).hexdigest()[:16]


def head_is_genuine(head: dict[str, Any], keys: Iterable[str]) -> bool:
    try:
        public = next(key for key in keys if _key_id(key) == head["key"])
        names = ("chain", "day", "sequence", "hash", "at", "key")
        text = b"qingka head 1\n" + _canonical({name: head[name] for name in names})
        signature = base64.b64decode(head["signature"], validate=True)
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public, validate=True))
        key.verify(signature, text)
    except (StopIteration, KeyError, TypeError, ValueError, InvalidSignature):
        return False
    return True


def entry_fault(entry: dict[str, Any], expected: int, previous: bytes) -> str | None:
    """The word for what is wrong with an entry at its place, or None."""
    sequence = entry["sequence"]
    if type(sequence) is not int or sequence < 0:
        return "unreadable"
    if sequence != expected:
        return "missing" if sequence > expected else "doubled"
    content_hash = bytes.fromhex(entry["content_hash"])
    if "content" in entry:
        salted = bytes.fromhex(entry["salt"]) + _canonical(entry["content"])
        if hashlib.sha256(salted).digest() != content_hash:
            return "changed"
    if bytes.fromhex(entry["previous"]) != previous:
        return "out_of_place"
    made = hashlib.sha256(sequence.to_bytes(8, "big") + previous + content_hash).digest()
    return None if made == bytes.fromhex(entry["hash"]) else "changed"


def _take(
    report: Report, signed: dict[int, set[bytes]], head: dict[str, Any], keys: list[str]
) -> None:
    """A head: believed when the key has signed it, for this chain."""
    sequence = head.get("sequence")
    if head.get("chain") != report.chain or not head_is_genuine(head, keys):
        report.faults.append((sequence if type(sequence) is int else 0, "forged_head"))
    else:
        signed.setdefault(head["sequence"], set()).add(bytes.fromhex(head["hash"]))


def check(
    lines: Iterable[str], outside: Iterable[dict[str, Any]] = (), keys: Iterable[str] = ()
) -> Report:
    """Check an export: ``lines`` of text, heads kept outside, public keys (base64)."""
    report, signed, previous = Report(), dict[int, set[bytes]](), bytes(32)
    keys = list(keys)
    report.own_key = not keys
    for text in lines:
        expected = report.entries + 1
        try:
            line = _object(text)
            kind = line.get("type")
            if not report.chain:
                if kind != "trail" or line.get("format") != 1:
                    raise Unreadable("not an export of this format")
                report.chain = str(line["chain"])
                keys = keys or [line["public_key"], *line.get("former_keys", [])]
                for head in outside:
                    if head.get("chain") == report.chain:
                        _take(report, signed, head, keys)
            elif kind == "head" and not report.entries:
                _take(report, signed, line, keys)
            elif kind == "entry":
                fault = entry_fault(line, expected, previous)
                if not fault:
                    previous = bytes.fromhex(line["hash"])
                    report.entries = expected
                    report.shown += "content" in line
                    if expected not in signed:
                        continue
                    if signed[expected] == {previous}:
                        report.proven = expected
                        continue
                    fault = "rewritten"
                report.faults.append((expected, fault))
                return report
            else:
                raise Unreadable("not a line of this format")
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            report.faults.append((expected, "unreadable"))
            return report
    if not report.chain:
        report.faults.append((1, "unreadable"))
    if max([*signed, 0]) > report.entries:
        report.faults.append((report.entries + 1, "cut_off"))
    return report


def read_heads(paths: Iterable[str]) -> list[dict[str, Any]]:
    """The head lines of files, and of the files *.jsonl of folders."""
    found = []
    for path in map(Path, paths):
        for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
            for text in file.read_text(encoding="utf-8").splitlines():
                line = _object(text)
                if line.get("type") == "head":
                    found.append(line)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="qingka-verify", description="检查导出的操作留痕")
    parser.add_argument("export", help="导出的文件 (.jsonl)")
    parser.add_argument("--heads", action="append", default=[], help="另存的每日签名: 文件或文件夹")
    parser.add_argument(
        "--key", action="append", default=[], help="您自己保存的公钥 (base64), 可多次"
    )
    given = parser.parse_args(arguments)
    try:
        outside = read_heads(given.heads)
        with open(given.export, encoding="utf-8") as file:
            report = check(file, outside, given.key)
    except (OSError, ValueError) as error:
        print(f"读不出 (cannot be read): {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for sequence, word in report.faults:
        print(f"第 {sequence} 条: {WORDS[word]}")
    print(
        f"{report.chain}: {report.entries} 条相符, 其中 {report.shown} 条显示内容; "
        f"签名证明到第 {report.proven} 条 (entries that hold, shown, proven by a head)"
    )
    if report.own_key:
        print("只用了文件自带的公钥; 请用 --key 给出您自己保存的公钥 (only the file's own keys)")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
