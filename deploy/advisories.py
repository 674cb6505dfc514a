"""Asks public advisories about every pinned dependency: ``python -m deploy.advisories``.

Fails (status 1) only where a version in use has a flaw that is known to be exploited (CISA's list)
and fixed; every other known flaw is named. Where the services cannot be asked it says so and ends
with 0: it never keeps a change from being taken offline. Changes nothing by itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
#: Open source advisories, and what is seen to be exploited.
OSV = "https://api.osv.dev/v1"
EXPLOITED = "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json"
SECONDS = 10
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


class NotAsked(Exception):
    """A service did not answer, or not in its own form."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """A known flaw of a version in use; ``fixed``: versions without it."""

    package: str
    version: str
    names: tuple[str, ...]
    fixed: tuple[str, ...]
    exploited: bool

    @property
    def urgent(self) -> bool:
        return self.exploited and bool(self.fixed)

    def __str__(self) -> str:
        fix = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no fix"
        seen = ", known to be exploited" if self.exploited else ""
        return f"{self.package} {self.version}: {' '.join(self.names)} ({fix}{seen})"


def pins(folder: Path = REQUIREMENTS) -> dict[str, str]:
    """Name → version of everything that any requirement file pins."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.txt")):
        found |= dict(_PIN.findall(path.read_text(encoding="utf-8")))
    return found


def flaws(wanted: Mapping[str, str], client: httpx.Client) -> list[Flaw]:
    """Every known flaw of these versions. Raises NotAsked."""
    try:
        exploited = {row["cveID"] for row in _json(client.get(EXPLOITED))["vulnerabilities"]}
        return [
            _flaw(name, version, told, exploited)
            for name, version, number in _numbers(wanted, client)
            if not (told := _json(client.get(f"{OSV}/vulns/{number}"))).get("withdrawn")
        ]
    except httpx.HTTPError as error:
        raise NotAsked(f"{type(error).__name__}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise NotAsked(f"an answer in another form: {error!r}") from None


def _numbers(wanted: Mapping[str, str], client: httpx.Client) -> Iterator[tuple[str, str, str]]:
    """(package, version, number of an advisory), all packages in one question."""
    queries = [
        {"package": {"ecosystem": "PyPI", "name": name}, "version": version}
        for name, version in wanted.items()
    ]
    results = _json(client.post(f"{OSV}/querybatch", json={"queries": queries}))["results"]
    for (name, version), result in zip(wanted.items(), results, strict=True):
        for entry in result.get("vulns", []):
            yield name, version, entry["id"]


def _flaw(name: str, version: str, told: dict[str, Any], exploited: set[str]) -> Flaw:
    names = (told["id"], *told.get("aliases", []))
    fixed = {
        event["fixed"]
        for affected in told.get("affected", [])
        if affected.get("package", {}).get("name", "").lower() == name.lower()
        for span in affected.get("ranges", [])
        if span.get("type") != "GIT"
        for event in span.get("events", [])
        if "fixed" in event
    }
    return Flaw(name, version, names, tuple(sorted(fixed)), bool(exploited & set(names)))


def _json(response: httpx.Response) -> dict[str, Any]:
    response.raise_for_status()
    found = response.json()
    if not isinstance(found, dict):
        raise TypeError(type(found).__name__)
    return found


def main(client: httpx.Client | None = None) -> int:
    """Ask, say what is known, and say whether it is urgent."""
    wanted = pins()
    with client or httpx.Client(timeout=SECONDS) as asked:
        try:
            found = flaws(wanted, asked)
        except NotAsked as reason:
            print(f"advisories: NOT ASKED about {len(wanted)} packages ({reason})")
            return 0
    urgent = [flaw for flaw in found if flaw.urgent]
    for flaw in found:
        print(f"{'URGENT' if flaw.urgent else 'known'}: {flaw}")
    print(f"advisories: {len(wanted)} packages, {len(found)} known flaws, {len(urgent)} urgent")
    return 1 if urgent else 0


if __name__ == "__main__":
    sys.exit(main())
