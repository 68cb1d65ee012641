#!/usr/bin/env bash
# Lint, check types and run the tests. Arguments go to pytest: bash scripts/test.sh -k mixture
set -euo pipefail
source "$(dirname "$0")/_environment.sh"
prepare_python dev
cd "$root"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
# One thread for each worker, since the workers already use all cores.
OMP_NUM_THREADS=1 "$python" -m pytest -n "$(getconf _NPROCESSORS_ONLN)" "$@"
