# Makes the virtual environment .venv from nothing and keeps it up to date. POSIX sh, to be sourced:
#
#   root=…                           the project's folder, as an absolute path
#   . "$root/deploy/bootstrap.sh"
#   bootstrap demo                   installs deploy/requirements/demo.txt if that is still to be done
#
# Needs a Python 3.11 to 3.13 and a way to PyPI (or the mirror that uv or pip is configured for).
# Asks for no root and changes nothing outside .venv (and the package caches of uv and pip).

set -eu
venv=$root/.venv
stamp=$venv/qingka-installed  # line 1: what the environment was made from; then: installed names
python=$venv/bin/python

# Written byte code makes a start twice as fast; some machines forbid it globally.
unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME

# Where a company's proxy has its own certificate, the system knows it and uv's own list does not.
# The first name is today's, the second that of older versions; settings of the user come first.
if [ -z "${UV_SYSTEM_CERTS-}${UV_NATIVE_TLS-}${SSL_CERT_FILE-}" ]; then
    export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '%s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

bootstrap() {
    key=$(stamp_key)
    if healthy_venv && is_installed "$key" "$1"; then
        compile_translations
        return
    fi
    healthy_venv || make_venv
    say "Installing the packages of $1 (the first time takes a minute) …"
    install_requirements "$1"
    note_installed "$key" "$1"
    compile_translations
}

# All files count, not only the one asked for: they share one environment and agree on versions.
stamp_key() { cd "$root/deploy/requirements" && cat ./*.txt | cksum; }

is_installed() { [ "$(head -n 1 "$stamp" 2>/dev/null)" = "$1" ] && grep -qx "$2" "$stamp"; }

note_installed() {
    [ "$(head -n 1 "$stamp" 2>/dev/null)" = "$1" ] || printf '%s\n' "$1" >"$stamp"
    printf '%s\n' "$2" >>"$stamp"
}

# Runs it: a pyenv shim may stand in PATH and yet fail, and a venv's Python may have been removed.
usable_python() {
    "$1" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
        >/dev/null 2>&1
}

# One that is half made, of another Python, or moved here from elsewhere (its scripts would start
# the old one) is not worth mending. pyvenv.cfg holds the command that made it.
healthy_venv() { grep -qsF " $venv" "$venv/pyvenv.cfg" && usable_python "$python"; }

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11; do
        if usable_python "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "Qingka needs Python 3.11, 3.12 or 3.13, and none of python3, python3.13, python3.12 and" \
        "python3.11 in PATH is one that runs. On Debian or Ubuntu: apt-get install python3"
}

make_venv() {
    base=$(find_python)
    say "Making .venv with $("$base" -V) …"
    rm -rf "$venv"
    # Without pip: Debian's Python has no ensurepip, and the rest rarely needs it.
    "$base" -m venv --without-pip "$venv"
}

install_requirements() {
    wanted=$root/deploy/requirements/$1.txt
    if find_uv; then
        "$uv" pip install --quiet --python "$python" --require-hashes -r "$wanted" && return
        # pip reads settings that uv does not: pip.conf and PIP_* with a company's own index.
        say "uv could not install them; trying with pip …"
    fi
    pip_install "$wanted" || die "The packages could not be installed; the lines above say why."
}

find_uv() {
    for candidate in uv "$venv/bin/uv"; do
        if "$candidate" --version >/dev/null 2>&1; then
            uv=$candidate
            return
        fi
    done
    uv=$venv/bin/uv
    pip_install "$root/deploy/requirements/uv.txt"
}

# pip from the first place that has one; the packages go into .venv in every case.
pip_install() {
    if "$python" -m pip --version >/dev/null 2>&1 ||
        "$python" -m ensurepip >/dev/null 2>&1; then
        "$python" -m pip install --quiet --require-hashes -r "$1"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -m pip --python "$python" --version >/dev/null 2>&1; then
            "$candidate" -m pip --python "$python" install --quiet --require-hashes -r "$1"
            return
        fi
    done
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    die "This Python $version has neither ensurepip nor pip. On Debian or Ubuntu, as root:" \
        "apt-get install python$version-venv (or install uv and run this again)."
}

compile_translations() {
    for po in "$root"/locale/*/LC_MESSAGES/*.po "$root"/*/locale/*/LC_MESSAGES/*.po; do
        if [ -e "$po" ]; then
            (cd "$root" && "$python" -m deploy.translations)
            return
        fi
    done
}
