# Sourced by search_*.sh: search_and_train SPACE "SMALL FLAGS" FLAGS... runs 'zcpt search --then-train'.
# FLAGS are those of 'zcpt search'. The small flags are added for a search on the embedded digits.
search_and_train() {
    local flags=" ${*:3} "
    local first=(--space "$1") small=($2)
    shift 2
    case "$flags" in
        *" --resume"* | *" -h "* | *" --help "*) first=() small=() ;;
        *" -c"* | *" --preset"*) small=() ;;
        *" --dataset digits "* | *" --dataset=digits "*) ;;
        *" --dataset"*) small=() ;;
    esac
    if [ ${#small[@]} -gt 0 ]; then
        echo "small settings for the embedded digits: ${small[*]} ('zcpt search' alone has larger defaults)" >&2
    fi
    # No output is read here: the name of a run folder may hold anything, and a shell might run it.
    # ${array[@]+...} because bash before 4.4 calls an empty array an unbound variable.
    "$python" -m zcpt search --then-train ${first[@]+"${first[@]}"} ${small[@]+"${small[@]}"} "$@"
}
