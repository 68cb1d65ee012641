# Sourced by search_*.sh: search_and_train SPACE "SMALL FLAGS" FLAGS... searches and then trains what was found.
# The flags go to 'zcpt search'; those for small images come first where the data set is the embedded digits.
search_and_train() {
    local space="$1" small="$2" dataset=digits run resume="" previous="" word
    shift 2
    run="runs/$(date +%Y-%m-%d_%H-%M-%S)-$space"
    for word in "$@"; do
        case "$word" in
            --dataset=*) dataset="${word#*=}" ;;
            --out=*) run="${word#*=}" ;;
            --resume=*) resume="${word#*=}" ;;
        esac
        case "$previous" in
            --dataset) dataset="$word" ;;
            --out) run="$word" ;;
            --resume) resume="$word" ;;
        esac
        previous="$word"
    done
    if [ -n "$resume" ]; then
        "$python" -m zcpt search "$@"
        run="$resume"
    else
        if [ "$dataset" = digits ]; then
            echo "small settings for the embedded digits: $small ('zcpt search' alone has larger defaults)" >&2
        else
            small=""
        fi
        # shellcheck disable=SC2086  # the small flags are several words
        "$python" -m zcpt search --space "$space" --out "$run" $small "$@"
    fi
    "$python" -m zcpt train --arch "$run/architecture.json"
}
