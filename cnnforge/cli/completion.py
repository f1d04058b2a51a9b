"""``cnnforge completion``: a script for the user's shell, which asks ``cnnforge complete`` after every TAB."""

from __future__ import annotations

import argparse

#: The program is called by the name under which it was typed, so that a virtual environment's own answers. A word that
#: goes on (``optimizer.``, ``model=``) gets no space behind it.
SCRIPTS = {
    "bash": r"""_cnnforge() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$'\n' word before
    COMPREPLY=($("$1" complete "$line" 2>/dev/null))
    word=${line##*[[:space:]]}
    if [[ $word == *[=:]* && $COMP_WORDBREAKS == *=* ]]; then
        before=${word%"${word##*[=:]}"}     # bash replaces what stands behind the last of these
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
    fi
    if [[ ${COMPREPLY[*]} == *[=.] ]]; then compopt -o nospace; fi
}
complete -o default -F _cnnforge cnnforge
""",
    "zsh": r"""#compdef cnnforge
_cnnforge() {
    local -a found
    found=(${(f)"$(${words[1]} complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)"})
    if (( $#found )); then
        compadd -S '' -- ${(M)found:#*[=.]}
        compadd -- ${found:#*[=.]}
    else
        _files
    fi
}
if [[ $funcstack[1] == _cnnforge ]]; then _cnnforge; else compdef _cnnforge cnnforge; fi
""",
    "fish": r"""function __cnnforge
    set -l words (commandline -opc)
    $words[1] complete (commandline -cp | string collect) 2>/dev/null
end
complete -c cnnforge -n __fish_use_subcommand -f
complete -c cnnforge -a '(__cnnforge)'
""",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("shell", choices=list(SCRIPTS), help="whose script to print")
    parser.epilog = (
        "put one of these into the shell's start file:\n"
        '  eval "$(cnnforge completion bash)"            ~/.bashrc\n'
        '  eval "$(cnnforge completion zsh)"             ~/.zshrc, behind compinit\n'
        "  cnnforge completion fish | source             ~/.config/fish/config.fish"
    )


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    print(SCRIPTS[args.shell], end="")
    return 0
