#!/usr/bin/env bash
# Makes the virtual environment that everything runs in, with the locked versions. Usage: venv.sh PYTHON FOLDER
set -euo pipefail
python=$1 venv=$2

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "mailinfra: needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1 || true). Set PYTHON=…" >&2
    exit 1
fi
# Debian splits the module that fills a new environment into a package of its own.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing python3-venv (apt) …"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    else
        echo "mailinfra: Python's venv module is missing; on Debian as root: apt-get install python3-venv" >&2
        exit 1
    fi
fi
started=$SECONDS
echo "Python environment: installing the locked packages into $venv …"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary uv \
    -r <(sed -n '/^uv==/,/[^\\]$/p' requirements.lock)
# Copies survive a cache that is cleaned; links across file systems only warn.
UV_LINK_MODE=copy "$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes requirements.lock
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
touch "$venv/.installed"
echo "Python environment: ready after $((SECONDS - started)) s"
