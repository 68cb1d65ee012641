#!/usr/bin/env bash
# Train a network on ImageNet, in one process for each GPU: PATH holds train/CLASS/ and val/CLASS/.
#   bash scripts/train_imagenet.sh /data/imagenet
#   bash scripts/train_imagenet.sh /data/imagenet --arch runs/mine --recipe imagenet-mobile
#   bash scripts/train_imagenet.sh /data/imagenet --resume runs/cifar10/train/imagenet
# FLAGS are those of 'zcpt train'. Without --arch the architecture is searched on CIFAR-10, as the papers do. The default
# recipe is imagenet on one GPU, and imagenet-large-batch on several.
set -euo pipefail
source "$(dirname "$0")/_environment.sh"
source "$(dirname "$0")/_train.sh"
if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
    echo "usage: bash scripts/train_imagenet.sh PATH [FLAGS], where PATH holds train/CLASS/ and val/CLASS/" >&2
    exit 2
fi
images="$1"
shift
prepare_python
if has_flag --resume "$@"; then
    train "$@"
else
    words=(--dataset "$images")
    if ! has_flag --arch "$@"; then
        find_architecture
        words+=(--arch "$architecture")
    fi
    if ! has_flag --recipe "$@"; then
        recipe=imagenet
        if [ "$(count_gpus)" -gt 1 ]; then recipe=imagenet-large-batch; fi
        words+=(--recipe "$recipe")
    fi
    train "${words[@]}" "$@"
fi
