#!/usr/bin/env bash
# Search NAS-Bench-201, then train the architecture: on the embedded digits, or on another data set with --dataset.
#   bash scripts/search_nasbench201.sh
#   bash scripts/search_nasbench201.sh --dataset cifar10 --download
set -euo pipefail
source "$(dirname "$0")/_environment.sh"
source "$(dirname "$0")/_search_and_train.sh"
prepare_python
search_and_train nasbench201 "--proposals 3 --validation-batches 20 --channels 8 --layers 1" "$@"
