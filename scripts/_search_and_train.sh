# Sourced by search_*.sh: search_and_train SPACE "SMALL FLAGS" FLAGS... searches and then trains what was found.
# The flags go to 'zcpt search'; the small ones come first where nothing but the embedded digits is searched on.
search_and_train() {
    local given=" ${*:3} " answer
    local first=(--space "$1") small=($2)
    shift 2
    case "$given" in
        *" --resume"* | *" -h "* | *" --help "*) first=() small=() ;;
        *" -c"* | *" --preset"*) small=() ;;
        *" --dataset digits "* | *" --dataset=digits "*) ;;
        *" --dataset"*) small=() ;;
    esac
    if [ ${#small[@]} -gt 0 ]; then
        echo "small settings for the embedded digits: ${small[*]} ('zcpt search' alone has larger defaults)" >&2
    fi
    answer="$("$python" -m zcpt search ${first[@]+"${first[@]}"} ${small[@]+"${small[@]}"} "$@")"
    printf '%s\n' "$answer"
    # The last line of the answer names the next command; that of --help does not.
    if [[ "${answer##*$'\n'}" == "next "* ]]; then
        bash -c "${answer##*$'\n'next }"
    fi
}
