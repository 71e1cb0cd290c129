"""Print the script that makes a shell complete hairpin's command lines.

It completes verbs, options, kinds and ingredients, and the names of the Pods, Services and nodes of
the lab that is running.

examples:
  source <(hairpin completion bash)
  hairpin completion bash > ~/.local/share/bash-completion/completions/hairpin
  hairpin completion zsh > ~/.zsh/completions/_hairpin      a folder of your $fpath
  hairpin completion fish > ~/.config/fish/completions/hairpin.fish
"""

from __future__ import annotations

import argparse

BASH = r"""# bash completion for hairpin; bash 4 or newer
__hairpin() {
    local line=${COMP_LINE:0:COMP_POINT} word given rest cut
    COMPREPLY=()
    word=${line##*[[:space:]]}
    # What bash sees as the word begins after the last = or : of it, so that part is taken off.
    rest=${word##*[=:]}
    [[ $COMP_WORDBREAKS == *[=:]* ]] && cut=$((${#word} - ${#rest})) || cut=0
    while IFS= read -r given; do
        given=${given%%$'\t'*}
        case $given in
            :file) compopt -o default; COMPREPLY=(); return ;;
            :nospace) compopt -o nospace ;;
            *) COMPREPLY+=("${given:cut}") ;;
        esac
    done < <("${COMP_WORDS[0]/#\~/$HOME}" __complete --line "$line" 2>/dev/null)
}
complete -F __hairpin hairpin
"""

ZSH = r"""#compdef hairpin
# zsh completion for hairpin
_hairpin() {
    local -a plain described options
    local given name about
    while IFS= read -r given; do
        case $given in
            :file) _files; return ;;
            :nospace) options=(-S '') ;;
            *)
                name=${given%%$'\t'*} about=${given#*$'\t'}
                plain+=("$name")
                [[ $about == $given ]] && described+=("$name") || described+=("$name -- $about")
                ;;
        esac
    done < <("${words[1]/#\~/$HOME}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#plain )) && compadd "${options[@]}" -l -d described -- "${plain[@]}"
}
if [[ $funcstack[1] == _hairpin ]]; then _hairpin "$@"; else compdef _hairpin hairpin; fi
"""

FISH = r"""# fish completion for hairpin
function __hairpin
    set -l words (commandline -opc)
    set -l given ($words[1] __complete $words[2..-1] (commandline -ct) 2>/dev/null)
    if contains -- :file $given
        __fish_complete_path (commandline -ct)
    else
        string match -v -r '^:(file|nospace)$' -- $given
    end
end
complete -c hairpin -f -a '(__hairpin)'
"""

_SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(_SCRIPTS), metavar="bash|zsh|fish")


def run(arguments: argparse.Namespace) -> int:
    print(_SCRIPTS[arguments.shell], end="")
    return 0
