#!/usr/bin/env bash
# Search the ProxylessNAS-like space, then train the architecture: on the embedded digits, or on another data set with --dataset.
#   bash scripts/search_mobilenet.sh
#   bash scripts/search_mobilenet.sh --dataset folder:PATH
set -euo pipefail
source "$(dirname "$0")/_environment.sh"
source "$(dirname "$0")/_search_and_train.sh"
prepare_python
search_and_train proxyless "--proposals 2 --validation-batches 20 --channels 8" "$@"
