#!/usr/bin/env bash
# Train a network on CIFAR-10, in one process for each GPU. Without --arch its architecture is searched first.
#   bash scripts/train_cifar10.sh
#   bash scripts/train_cifar10.sh --arch runs/mine --recipe cifar-fast
#   bash scripts/train_cifar10.sh --resume runs/cifar10
# FLAGS are those of 'zcpt train'; the default recipe is DARTS' of 600 epochs.
set -euo pipefail
source "$(dirname "$0")/_environment.sh"
source "$(dirname "$0")/_train.sh"
prepare_python
if has_flag --resume "$@" || has_flag --help "$@" || has_flag -h "$@"; then
    train "$@"
elif has_flag --arch "$@"; then
    train --dataset cifar10 --download "$@"
else
    find_architecture "$@"
    train --arch "$architecture" --dataset cifar10 --download "$@"
fi
