#!/usr/bin/env bash
# Search the DARTS space, then train the architecture: on the embedded digits, or on another data set with --dataset.
#   bash scripts/search_darts.sh
#   bash scripts/search_darts.sh --dataset cifar10 --download
set -euo pipefail
source "$(dirname "$0")/_environment.sh"
source "$(dirname "$0")/_search_and_train.sh"
prepare_python
search_and_train darts "--proposals 3 --validation-batches 20 --channels 8 --layers 5" "$@"
