"""The commands' common start: when it makes, keeps and fills the virtual environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ["bootstrap.sh", "demo", "test", "requirements/compile"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A project folder, with a space in its name, that holds what bootstrap.sh reads."""
    root = tmp_path / "a clone"
    (root / "deploy/requirements").mkdir(parents=True)
    shutil.copy(ROOT / "deploy/bootstrap.sh", root / "deploy")
    for name in ("demo", "test"):
        (root / f"deploy/requirements/{name}.txt").write_text(f"{name}==1\n")
    return root


def sh(root: Path, script: str, *, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``script`` after sourcing bootstrap.sh; installing is replaced by saying so."""
    start = (
        'root=$1; . "$root/deploy/bootstrap.sh"\ninstall_requirements() { echo "install $1"; }\n'
    )
    return subprocess.run(
        ["/bin/sh", "-c", start + script, "sh", str(root)],
        capture_output=True,
        text=True,
        check=False,
        env=None if path is None else {"PATH": path},
    )


def said(root: Path, script: str) -> list[str]:
    done = sh(root, script)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_are_well_formed_for_a_plain_shell(name: str) -> None:
    subprocess.run(["/bin/sh", "-n", ROOT / "deploy" / name], check=True)


@pytest.mark.parametrize("name", ["deploy/demo", "deploy/test", ".ci/run"])
def test_the_commands_can_be_executed(name: str) -> None:
    assert (ROOT / name).stat().st_mode & 0o111


def test_packages_are_installed_once(clone: Path) -> None:
    assert said(clone, "bootstrap demo") == ["install demo"]
    assert said(clone, "bootstrap demo") == []


def test_each_kind_of_installation_is_remembered(clone: Path) -> None:
    assert said(clone, "bootstrap demo; bootstrap test") == ["install demo", "install test"]
    assert said(clone, "bootstrap demo; bootstrap test") == []


def test_a_change_of_any_file_installs_every_kind_again(clone: Path) -> None:
    said(clone, "bootstrap demo; bootstrap test")
    (clone / "deploy/requirements/demo.txt").write_text("demo==2\n")
    assert said(clone, "bootstrap test; bootstrap demo") == ["install test", "install demo"]
    (clone / "deploy/requirements/demo.txt").write_text("demo==1\n")
    assert said(clone, "bootstrap test") == ["install test"]


def test_a_failed_installation_is_not_remembered(clone: Path) -> None:
    failing = sh(clone, "install_requirements() { return 1; }; bootstrap demo")
    assert failing.returncode != 0
    assert said(clone, "bootstrap demo") == ["install demo"]


def test_a_healthy_environment_is_kept(clone: Path) -> None:
    said(clone, "bootstrap demo")
    (clone / ".venv/mine").touch()
    said(clone, "bootstrap test")
    assert (clone / ".venv/mine").exists()


def test_an_environment_whose_python_is_gone_is_made_anew(clone: Path) -> None:
    said(clone, "bootstrap demo")
    python = clone / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    assert said(clone, "bootstrap demo") == ["install demo"]
    assert python.exists()


def test_a_half_made_environment_is_made_anew(clone: Path) -> None:
    (clone / ".venv/bin").mkdir(parents=True)
    assert said(clone, "bootstrap demo") == ["install demo"]
    assert (clone / ".venv/bin/python").exists()


def test_an_environment_that_was_moved_is_made_anew(clone: Path) -> None:
    said(clone, "bootstrap demo")
    moved = clone.rename(clone.with_name("another place"))
    assert said(moved, "bootstrap demo") == ["install demo"]


def test_without_a_usable_python_it_says_which_are_wanted(clone: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    shim = tools / "python3"  # as pyenv's: it is there, and it fails
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    for name in ("cat", "cksum", "grep", "head", "rm"):
        (tools / name).symlink_to(shutil.which(name) or f"/missing/{name}")

    done = sh(clone, "bootstrap demo", path=str(tools))

    assert done.returncode == 1
    assert "Qingka needs Python 3.11, 3.12 or 3.13" in done.stderr


def test_without_any_pip_it_says_which_package_to_install(clone: Path, tmp_path: Path) -> None:
    real = Path(sys.executable).resolve()
    tools = tmp_path / "bin"
    tools.mkdir()
    python = tools / "python3"
    python.write_text(f'#!/bin/sh\ncase "$*" in *pip*) exit 1 ;; esac\nexec "{real}" "$@"\n')
    python.chmod(0o755)

    done = sh(clone, "python=$(command -v python3); pip_install none.txt", path=str(tools))

    assert done.returncode == 1
    assert "has neither ensurepip nor pip" in done.stderr
    assert "-venv" in done.stderr


def test_translations_are_compiled_where_there_are_any(clone: Path) -> None:
    script = "python=echo; compile_translations"
    assert said(clone, script) == []
    catalogue = clone / "agency/locale/en/LC_MESSAGES/django.po"
    catalogue.parent.mkdir(parents=True)
    catalogue.touch()
    assert said(clone, script) == ["-m deploy.translations"]
