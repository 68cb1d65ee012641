# Sourced by train_*.sh: find_architecture sets $architecture, and train FLAGS... runs 'zcpt train' on all GPUs.
count_gpus() {
    "$python" -c 'import torch; print(torch.cuda.device_count())'
}

# has_flag FLAG WORDS... tells whether a flag is among the words.
has_flag() {
    local flag="$1" word
    shift
    for word in "$@"; do
        case "$word" in "$flag" | "$flag="*) return 0 ;; esac
    done
    return 1
}

# find_architecture WORDS... sets $architecture to the search on CIFAR-10 in runs/cifar10, which is made, or resumed, if it
# is not finished. Of the words, those that say where CIFAR-10 lies are for the search too.
find_architecture() {
    local place=()
    while [ $# -gt 0 ]; do
        case "$1" in
            --data-dir) place+=("$1" "${2-}") ;;
            --data-dir=*) place+=("$1") ;;
        esac
        shift
    done
    architecture=runs/cifar10
    [ ! -e "$architecture/architecture.json" ] || return 0
    if [ -e "$architecture/config.json" ]; then
        "$python" -m zcpt search --resume "$architecture"
    else
        # ${array[@]+...} because bash before 4.4 calls an empty array an unbound variable.
        "$python" -m zcpt search --space darts --dataset cifar10 --download ${place[@]+"${place[@]}"} --out "$architecture"
    fi
}

# One process for each GPU; without a GPU, or with one, no other process than this.
train() {
    local gpus
    gpus="$(count_gpus)"
    if [ "$gpus" -gt 1 ]; then
        "$python" -m torch.distributed.run --standalone --nproc-per-node "$gpus" -m zcpt train "$@"
    else
        "$python" -m zcpt train "$@"
    fi
}
