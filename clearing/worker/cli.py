"""The commands of ``qingka-reader`` and what they share: configuration, language, whose files.

Owns the command line. Every command ends with 0 (well), 1 (look at it) or 2 (not done).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from agency.logs import log_to_stderr
from clearing.worker.config import ConfigError, MachineConfig, load
from clearing.worker.durable import locked, private_dir
from clearing.worker.words import LANGUAGES, Words, language_of
from devices.protocol.texts import N_

CONFIG_VARIABLE = "QINGKA_READER_CONFIG"

Command = Callable[[argparse.Namespace, Words], int]


class Refusal(Exception):
    """A command is not carried out; the text is for the person at the keyboard."""


def default_config() -> Path:
    """Where the configuration lies unless somebody says otherwise."""
    if said := os.environ.get(CONFIG_VARIABLE):
        return Path(said)
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "qingka-reader/reader.toml"
    return Path("/var/lib/qingka-reader/reader.toml")


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and do what it says."""
    words = Words(_language(list(sys.argv[1:] if arguments is None else arguments)))
    options = _parser(words).parse_args(arguments)
    try:
        status: int = options.command(options, words)
        return status
    except ConfigError as error:
        print(
            f"{words(error.text)}: {error.at}" if error.at else words(error.text), file=sys.stderr
        )
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
    except BrokenPipeError:  # "| head" has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 2


def _language(arguments: list[str]) -> str:
    """Before anything else: the help is in it, too."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--lang", choices=LANGUAGES)
    found, _ = first.parse_known_args(arguments)
    return found.lang or language_of()


def _parser(words: Words) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qingka-reader", description=words(N_("清卡台读盘机程序"))
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, does: Command, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument(
            "--config",
            type=Path,
            default=default_config(),
            help=words(N_("配置文件 (TOML, 0600), 默认 {path}"), path=default_config()),
        )
        added.add_argument("--lang", choices=LANGUAGES, help=words(N_("界面语言")))
        added.set_defaults(command=does)
        return added

    enrol = command("enroll", _enrol, words(N_("用一次性登记码登记这台读盘机")))
    enrol.add_argument("code", metavar="CODE", help=words(N_("服务器上生成的一次性登记码")))
    enrol.add_argument("--server", required=True, help=words(N_("服务器地址, 如 https://…")))
    enrol.add_argument("--name", default="", help=words(N_("读盘机名称, 默认为主机名")))
    enrol.add_argument("--force", action="store_true", help=words(N_("覆盖已有的登记")))
    enrol.add_argument(
        "--plain-http", action="store_true", help=words(N_("允许不加密的服务器地址"))
    )
    command("run", _run, words(N_("在读盘机上办理抄报清卡")))
    doctor = command("doctor", _doctor, words(N_("检查这台读盘机")))
    doctor.add_argument("--json", action="store_true", help=words(N_("输出 JSON")))
    listing = command("list", _list, words(N_("列出盘位和盘里是谁")))
    listing.add_argument("--json", action="store_true", help=words(N_("输出 JSON")))
    read = command("read", _read, words(N_("读一只税盘, 不写盘")))
    read.add_argument("slot", metavar="SLOT", help=words(N_("盘位")))
    read.add_argument("--json", action="store_true", help=words(N_("输出 JSON")))
    labels = command("labels", _labels, words(N_("打印盘位标签")))
    labels.add_argument("--html", action="store_true", help=words(N_("输出可打印的网页")))
    labels.add_argument(
        "slots", metavar="SLOT", nargs="*", help=words(N_("只打印这些盘位; 默认全部"))
    )
    return parser


# --- commands: each imports what it needs, so that none pays for another -------------------------


def _enrol(options: argparse.Namespace, words: Words) -> int:
    from clearing.worker.enrolment import Enrolment

    return Enrolment(
        server=options.server,
        path=options.config,
        name=options.name,
        force=options.force,
        plain_http=options.plain_http,
        words=words,
    ).enrol(options.code)


def _run(options: argparse.Namespace, words: Words) -> int:
    from clearing.worker.serve import serve

    config = our_config(options.config, words)
    log_to_stderr()
    with locked(config.data_dir / "worker.lock") as ours:
        if not ours:
            raise Refusal(words(N_("另一个工作程序正在使用此数据目录")))
        serve(config)
    return 0


def _doctor(options: argparse.Namespace, words: Words) -> int:
    from clearing.worker.doctor.examine import examine, status_of
    from clearing.worker.doctor.findings import as_json, as_text

    findings = examine(options.config)
    if options.json:
        print(json.dumps(as_json(findings, words), ensure_ascii=False, indent=2))
    else:
        print(as_text(findings, words))
    return status_of(findings)


def _list(options: argparse.Namespace, words: Words) -> int:
    from clearing.worker.showing import list_text, look_round

    found = look_round(our_config(options.config, words), words)
    print(_json(found) if options.json else list_text(found, words))
    return 0


def _read(options: argparse.Namespace, words: Words) -> int:
    from clearing.worker.showing import read_slot, read_text

    found = read_slot(our_config(options.config, words), options.slot, words)
    print(_json(found) if options.json else read_text(options.slot, found, words))
    return 1 if found["problem"] or found.get("unread") else 0


def _labels(options: argparse.Namespace, words: Words) -> int:
    from clearing.worker.labels import html_sheet, labels_of, text_sheet
    from clearing.worker.showing import look_round

    config = our_config(options.config, words)
    labels = labels_of(look_round(config, words), options.slots)
    print(html_sheet(labels, config.name, words) if options.html else text_sheet(labels, words))
    return 0


def our_config(path: Path, words: Words) -> MachineConfig:
    """The configuration, for a command that works with the machine's data as their owner.

    Raises ConfigError, Refusal: files of another user's would lock the service out."""
    config = load(path)
    refuse_other_user(config.data_dir, words)
    private_dir(config.data_dir)
    return config


def refuse_other_user(folder: Path, words: Words, *, strict: bool = True) -> None:
    """Raises Refusal where the folder is somebody else's (``strict``), or root would make files in
    somebody else's folder."""
    if sys.platform == "win32":
        return
    exists = folder.exists()
    while not folder.exists():
        folder = folder.absolute().parent
    owner, ours = folder.stat().st_uid, os.geteuid()
    if owner != ours and (ours == 0 or (exists and strict)):
        text = N_("{folder} 属于用户 {owner}; 请以该用户执行, 如 sudo -u {owner} qingka-reader …")
        raise Refusal(words(text, folder=folder, owner=_user(owner)))


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
