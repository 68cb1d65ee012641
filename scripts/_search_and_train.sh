# Sourced by search_*.sh: search_and_train SPACE "SMALL FLAGS" FLAGS... runs 'zcpt search' and then 'zcpt train'.
# FLAGS are those of 'zcpt search'. The small flags are added for a search on the embedded digits.
search_and_train() {
    local flags=" ${*:3} " result next words=() word
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
    # ${array[@]+...} because bash before 4.4 calls an empty array an unbound variable.
    result="$("$python" -m zcpt search ${first[@]+"${first[@]}"} ${small[@]+"${small[@]}"} "$@")"
    printf '%s\n' "$result"
    # The last line is the command that trains the architecture; 'zcpt search --help' prints none.
    next="${result##*$'\n'}"
    if [[ "$next" == "next "*" -m zcpt train "* ]]; then
        # xargs only splits the line at spaces and quotes. A shell would also run what a folder's name contains.
        while IFS= read -r -d '' word; do words+=("$word"); done < <(
            printf '%s' "${next#*" -m zcpt train "}" | xargs printf '%s\0'
        )
        "$python" -m zcpt train "${words[@]}"
    fi
}
