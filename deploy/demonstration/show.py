"""What the demo shows in the terminal: a live bar, a table by outcome, the people, the verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from clearing.states import Reason, RunState
from deploy.demonstration.judge import Claims
from deploy.demonstration.people import AGENCY
from deploy.demonstration.tables import Progress, Spent
from devices.protocol.catalogue import entry_of
from devices.protocol.failures import Code, FailureClass

_CLASSES = {
    FailureClass.RETRY: "自动重试",
    FailureClass.PERSON: "代账机构处理",
    FailureClass.BUREAU: "找税务机关",
    FailureClass.DATA: "先补资料",
    FailureClass.SOFTWARE: "找软件方",
    FailureClass.DONE: "已办妥",
}
_ORDER = [*RunState, ""]


class Live(AbstractContextManager["Live"]):
    """The one progress bar. Where the output is no terminal, only its last line is shown."""

    def __init__(self, console: Console, total: int) -> None:
        self._bar = Bar(
            TextColumn("[bold]一键抄报清卡"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("盘"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
        )
        self._task = self._bar.add_task("", total=total, said="")

    def __enter__(self) -> Live:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        states: Counter[str] = Counter()
        for ending, count in progress.counts.items():
            states[ending.partition("(")[0]] += count
        said = " ".join(f"{RunState(state).label} {n}" for state, n in states.most_common())
        self._bar.update(self._task, total=progress.total, completed=progress.settled, said=said)


def outcomes(console: Console, claims: Claims, diskless: int) -> None:
    """The closing table: by outcome and reason, how many disks, and whose."""
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for claim in claims.disks:
        elsewhere = "elsewhere" if "elsewhere" in claim.cleared_by.values() else ""
        groups[claim.ending, claim.code or elsewhere, claim.outcome].append(claim.company)
    table = Table(title="办理结果 (模拟)", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("结果", no_wrap=True)
    table.add_column("盘数", justify="right")
    table.add_column("原因 / 下一步")
    table.add_column("客户")
    for (ending, code, _state), companies in sorted(
        groups.items(), key=lambda item: (_ORDER.index(item[0][2]), -len(item[1]))
    ):
        names = list(dict.fromkeys(companies))
        shown = "、".join(names[:3]) + (f" 等 {len(names)} 户" if len(names) > 3 else "")
        table.add_row(state_words(ending), str(len(companies)), why(ending, code), shown)
    if diskless:
        table.add_row("无需清卡", "–", "数电, 没有税盘", f"{diskless} 户")
    console.print(table)


def state_words(ending: str) -> str:
    """An ending as the pages call it."""
    state, _, reason = ending.partition("(")
    if not state:
        return "未办理"
    words = str(RunState(state).label)
    return f"{words}: {Reason(reason.rstrip(')')).label}" if reason else words


def why(ending: str, code: str) -> str:
    """What stands behind an ending, and whose move it is; empty where there is nothing to say."""
    if code == "elsewhere":
        return "读盘时已清卡 (非本系统办理), 未写盘"
    if ending == "waiting(disk)":
        return "未插在读盘机上; 插上后自动办理"
    try:
        entry = entry_of(Code(code))
    except ValueError:
        return code
    return f"{entry.title} ({code}; {_CLASSES[entry.cls]})"


def times(console: Console, spent: Spent, companies: int, disks: int) -> None:
    """How much of it was waiting for disks and bureau."""
    runs = spent.device + spent.bureau
    console.print(
        f"{companies} 户 {disks} 盘, 用时 [bold]{spent.wall:.1f} 秒[/bold]; "
        f"其间各盘合计等待税盘 {spent.device:.1f} 秒, 等待税局 {spent.bureau:.1f} 秒, "
        f"平均 {runs / max(spent.wall, 0.1):.1f} 盘同时等待\n"
        f"({companies} clients, {disks} disks: {spent.device:.1f} s of waiting for disks and "
        f"{spent.bureau:.1f} s for the bureau, all runs added, in {spent.wall:.1f} s wall)"
    )


def verdict(console: Console, violations: Sequence[str], disks: int) -> None:
    """What the judge says."""
    if not violations:
        console.print(
            f"[green]核对: {disks} 盘全部与模拟世界一致, 税盘与税局的记录为凭 "
            "(every disk ended as its world says)[/green]"
        )
        return
    console.print(f"[red bold]核对: {len(violations)} 处不符 (violations):[/red bold]")
    for sentence in violations:
        console.print(f"  [red]· {sentence}[/red]", highlight=False)


def welcome(
    console: Console, url: str, password: str, people: Sequence[tuple[str, str, str]]
) -> None:
    """Address and accounts, and how to end it."""
    table = Table(title=f"{AGENCY}  {url}", box=box.SIMPLE_HEAD, title_justify="left")
    for heading in ("账号", "登录口令", "姓名", "角色"):
        table.add_column(heading)
    for username, name, role in people:
        table.add_row(username, password, name, role)
    console.print(table)
    console.print("一切均为模拟: 税盘、税局、客户 (all simulated). 按 Ctrl-C 结束 (to end).")
