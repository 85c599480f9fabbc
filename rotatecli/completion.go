package rotatecli

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (completionCmd) Help() string {
	return `Examples:

  source <(kmsencrypted completion bash)
  kmsencrypted completion zsh > "${fpath[1]}/_kmsencrypted"
  kmsencrypted completion fish > ~/.config/fish/completions/kmsencrypted.fish`
}

// scripts ask the program itself for candidates, so that they are always up to
// date. NAME is replaced by the command, FUNC by its name as part of a function
// name.
var scripts = map[string]string{
	"bash": `_FUNC_complete() {
	local IFS=$'\n'
	COMPREPLY=($(compgen -W "$(NAME __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _FUNC_complete NAME
`,
	"zsh": `#compdef NAME
_FUNC_complete() {
	local -a candidates
	candidates=("${(@f)$(NAME __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	compadd -- "${candidates[@]}"
}
compdef _FUNC_complete NAME
`,
	"fish": `function __FUNC_complete
	set -l words (commandline -opc) (commandline -ct)
	NAME __complete $words[2..-1] 2>/dev/null
end
complete -c NAME -f -a '(__FUNC_complete)'
`,
}

func (c *completionCmd) Run(s *Session) error {
	name := strings.Map(func(r rune) rune {
		if r == '-' || r == '.' {
			return '_'
		}
		return r
	}, s.name)
	s.printf("%s", strings.NewReplacer("NAME", s.name, "FUNC", name).Replace(scripts[c.Shell]))
	return nil
}

// completeCmd answers the scripts: one candidate per line for the last word.
type completeCmd struct {
	Words []string `arg:"" optional:""`
}

func (c *completeCmd) Run(s *Session) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, candidate := range candidates(s.parser.Model.Node, words) {
		s.printf("%s\n", candidate)
	}
	return nil
}

// candidates returns the commands, flags and values that may replace the last
// word.
func candidates(node *kong.Node, words []string) (found []string) {
	last := ""
	if len(words) > 0 {
		last, words = words[len(words)-1], words[:len(words)-1]
	}
	var flag *kong.Flag // the one without its value yet
	for _, word := range words {
		switch {
		case flag != nil:
			flag = nil
		case strings.HasPrefix(word, "-"):
			if f := flagOf(node, word); f != nil && !f.IsBool() && !strings.Contains(word, "=") {
				flag = f
			}
		default:
			for _, child := range node.Children {
				if child.Name == word {
					node = child
				}
			}
		}
	}
	switch {
	case flag != nil:
		found = enumOf(flag.Value)
	case strings.HasPrefix(last, "-"):
		for _, group := range node.AllFlags(true) {
			for _, f := range group {
				found = append(found, "--"+f.Name)
			}
		}
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				found = append(found, child.Name)
			}
		}
		for _, positional := range node.Positional {
			found = append(found, enumOf(positional)...)
		}
	}
	found = slices.DeleteFunc(found, func(s string) bool { return !strings.HasPrefix(s, last) })
	slices.Sort(found)
	return slices.Compact(found)
}

func enumOf(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return v.EnumSlice()
}

func flagOf(node *kong.Node, word string) *kong.Flag {
	name, _, _ := strings.Cut(word, "=")
	for _, group := range node.AllFlags(false) {
		for _, f := range group {
			if "--"+f.Name == name || f.Short != 0 && "-"+string(f.Short) == name {
				return f
			}
		}
	}
	return nil
}
