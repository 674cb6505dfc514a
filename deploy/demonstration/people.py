"""The people of the practice agency and the password they all have in this run folder."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass

from deploy.demonstration.places import Places, write_private

AGENCY = "虚构代账 (练习机构)"
CLIENT_SHORT_NAME = "虚构甲一"


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """``role``: a value of ``agency.choices.Role``; ``title`` says it in Chinese."""

    username: str
    name: str
    role: str
    title: str


PEOPLE = (
    DemoPerson("owner", "周负责", "owner", "负责人"),
    DemoPerson("supervisor", "吴主管", "supervisor", "主管"),
    DemoPerson("zhang", "张会计", "bookkeeper", "记账会计"),
    DemoPerson("wang", "王会计", "bookkeeper", "记账会计"),
    DemoPerson("desk", "赵前台", "front_desk", "前台"),
    DemoPerson("client", "钱老板", "client", "企业客户"),
)


@dataclass(frozen=True, slots=True)
class Accounts:
    """The one login password of all demo accounts."""

    password: str


def accounts_of(places: Places) -> Accounts:
    """Made at first use, different in every run folder: nothing ships with a known password."""
    path = places.root / "accounts.json"
    if not path.exists():
        groups = [f"{secrets.randbelow(10_000):04d}" for _ in range(3)]
        write_private(path, json.dumps({"password": "-".join(["qk", *groups])}))
    return Accounts(json.loads(path.read_text(encoding="utf-8"))["password"])
