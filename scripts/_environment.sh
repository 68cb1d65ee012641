# Sourced by the other scripts: prepare_python EXTRA... sets $python to an interpreter with all requirements of setup.cfg
# and of the extras. It is the one of the active virtual environment, else of .venv, which is made if it is missing.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

prepare_python() {
    if [ -n "${VIRTUAL_ENV:-${CONDA_PREFIX:-}}" ]; then
        python=python
    else
        python="$root/.venv/bin/python"
        if [ ! -x "$python" ]; then
            echo "making the virtual environment $root/.venv" >&2
            python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
                echo "Python 3.10 or newer is needed, and python3 is $(python3 --version 2>&1): activate a virtual environment with a newer one." >&2
                exit 2
            }
            python3 -m venv "$root/.venv"
        fi
    fi
    "$python" "$root/scripts/install_missing.py" "$@"
}
