package cli

import (
	"context"
	"fmt"

	ucli "github.com/urfave/cli/v2"
)

const bashCompletion = `_membank() {
  local cur="${COMP_WORDS[COMP_CWORD]}"
  local words=("${COMP_WORDS[@]:0:COMP_CWORD}")
  [[ "$cur" == -* ]] && words+=("$cur")
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _membank membank
`

const zshCompletion = `#compdef membank
_membank() {
  local -a options
  local current=${words[-1]}
  if [[ "$current" == "-"* ]]; then
    options=("${(@f)$(${words[@]:0:#words[@]-1} ${current} --generate-bash-completion 2>/dev/null)}")
  else
    options=("${(@f)$(${words[@]:0:#words[@]-1} --generate-bash-completion 2>/dev/null)}")
  fi
  if [[ -n "${options[1]}" ]]; then _describe 'values' options; else _files; fi
}
compdef _membank membank
`

func completionCommand() *ucli.Command {
	return &ucli.Command{
		Name: "completion", Usage: "print completion for a shell", ArgsUsage: "bash|zsh|fish",
		Description: "  source <(membank completion bash)\n" +
			"  source <(membank completion zsh)\n" +
			"  membank completion fish | source",
		Action: action([]string{"SHELL"}, func(_ context.Context, s *session, c *ucli.Context, args []string) error {
			var script string
			var err error
			switch args[0] {
			case "bash":
				script = bashCompletion
			case "zsh":
				script = zshCompletion
			case "fish":
				script, err = c.App.ToFishCompletion()
			default:
				return usage("%s %s: no completion for that shell (bash, zsh or fish)", s.name, args[0])
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(s.stdout, script)
			return err
		}),
	}
}
