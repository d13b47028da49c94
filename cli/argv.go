package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	ucli "github.com/urfave/cli/v2"
)

// reorder puts a command line into the one order urfave/cli reads completely:
//
//	membank GLOBAL-FLAGS COMMAND [SUBCOMMAND] FLAGS -- POSITIONALS
//
// The library stops reading flags at the first positional and drops the rest
// without a word, so "query train -k 5" would answer with the default k. Here
// flags stand anywhere, and what no table knows is an error with a suggestion.
// A flag that takes a value takes the next argument whatever it looks like
// (--min-score -0.5), unless that is another flag of the command; "--" ends the
// flags; "-" and negative numbers are positionals.
func reorder(app *ucli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return []string{app.Name}, nil
	}
	if args[len(args)-1] == "--generate-bash-completion" {
		// A "--" is a flag being typed here. The library would take it for the end of
		// the flags and run the command.
		return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--" }), nil
	}
	name, rest := args[0], args[1:]
	if len(rest) > 0 && rest[0] == "help" {
		rest = append(slices.Clone(rest[1:]), "--help")
	}
	path, err := commandPath(app, rest)
	if err != nil {
		return nil, err
	}
	globals := flagTable(append(globalFlags(), ucli.VersionFlag))
	own := flagTable([]ucli.Flag{ucli.HelpFlag})
	title := pathName(path)
	for _, c := range path {
		for k, v := range flagTable(c.Flags) {
			own[k] = v
		}
	}
	var before, after, positionals []string
	skip := len(path)
	for i := 0; i < len(rest); i++ {
		token := rest[i]
		if token == "--" {
			positionals = append(positionals, rest[i+1:]...)
			break
		}
		if !looksLikeFlag(token) {
			if skip > 0 { // the words of the command itself
				skip--
				continue
			}
			positionals = append(positionals, token)
			continue
		}
		flag, _, inline := strings.Cut(strings.TrimLeft(token, "-"), "=")
		takes, isOwn := own[flag]
		if !isOwn {
			var isGlobal bool
			if takes, isGlobal = globals[flag]; !isGlobal {
				return nil, unknownFlag(title, token, own, globals)
			}
		}
		moved := []string{token}
		if takes && !inline {
			if i+1 == len(rest) || isKnownFlag(rest[i+1], own, globals) {
				return nil, usage("%s: flag %s needs a value (write %s VALUE or %s=VALUE)", title, token, token, token)
			}
			i++
			moved = append(moved, rest[i])
		}
		if isOwn {
			after = append(after, moved...)
		} else {
			before = append(before, moved...)
		}
	}
	ordered := append([]string{name}, before...)
	for _, c := range path {
		ordered = append(ordered, c.Name)
	}
	ordered = append(ordered, after...)
	if len(path) == 0 || len(positionals) == 0 {
		return ordered, nil
	}
	return append(append(ordered, "--"), positionals...), nil
}

// commandPath finds the command's words among the arguments. Which flags take a
// value is not known before the command is, so every table counts here; the
// tables agree (a test holds them to it).
func commandPath(app *ucli.App, rest []string) ([]*ucli.Command, error) {
	all := flagTable(append(globalFlags(), ucli.HelpFlag, ucli.VersionFlag))
	collect(all, app.Commands)
	var path []*ucli.Command
	level := app.Commands
	for i := 0; i < len(rest) && len(level) > 0; i++ {
		token := rest[i]
		if token == "--" {
			break
		}
		if looksLikeFlag(token) {
			flag, _, inline := strings.Cut(strings.TrimLeft(token, "-"), "=")
			if all[flag] && !inline {
				i++
			}
			continue
		}
		at := slices.IndexFunc(level, func(c *ucli.Command) bool { return c.HasName(token) })
		if at < 0 {
			return nil, unknownCommand(path, token, level)
		}
		path = append(path, level[at])
		level = level[at].Subcommands
	}
	return path, nil
}

func collect(table map[string]bool, commands []*ucli.Command) {
	for _, c := range commands {
		for k, v := range flagTable(c.Flags) {
			table[k] = v
		}
		collect(table, c.Subcommands)
	}
}

// flagTable maps each name of the flags to whether it takes a value.
func flagTable(flags []ucli.Flag) map[string]bool {
	table := map[string]bool{}
	for _, f := range flags {
		_, isBool := f.(*ucli.BoolFlag)
		for _, name := range f.Names() {
			table[name] = !isBool
		}
	}
	return table
}

// looksLikeFlag reports whether a token is meant as a flag: "-" is stdin and a
// negative number is a number.
func looksLikeFlag(token string) bool {
	if len(token) < 2 || token[0] != '-' {
		return false
	}
	_, err := strconv.ParseFloat(token, 64)
	return err != nil
}

func isKnownFlag(token string, tables ...map[string]bool) bool {
	if token == "--" {
		return true
	}
	if !looksLikeFlag(token) {
		return false
	}
	flag, _, _ := strings.Cut(strings.TrimLeft(token, "-"), "=")
	for _, t := range tables {
		if _, ok := t[flag]; ok {
			return true
		}
	}
	return false
}

// mentions reports whether a boolean flag is set anywhere before "--", for the
// errors that happen before the flags are parsed.
func mentions(args []string, flag string) bool {
	set := false
	for _, a := range args {
		switch a {
		case "--":
			return set
		case "--" + flag, "-" + flag, "--" + flag + "=true", "-" + flag + "=true":
			set = true
		case "--" + flag + "=false", "-" + flag + "=false":
			set = false
		}
	}
	return set
}

func unknownFlag(title, token string, tables ...map[string]bool) error {
	flag, _, _ := strings.Cut(strings.TrimLeft(token, "-"), "=")
	var names []string
	for _, t := range tables {
		for name := range t {
			names = append(names, name)
		}
	}
	remedy := "see membank " + title + " --help"
	if near := nearest(flag, names); near != "" {
		remedy = "did you mean " + dashed(near) + "?"
	}
	if title == "" {
		return usage("unknown flag %s (see membank --help)", token)
	}
	return usage("%s: unknown flag %s (%s)", title, token, remedy)
}

func unknownCommand(path []*ucli.Command, token string, level []*ucli.Command) error {
	var names []string
	for _, c := range level {
		names = append(names, c.Names()...)
	}
	words := strings.TrimSpace(pathName(path) + " " + token)
	if near := nearest(token, names); near != "" {
		return usage("%s: unknown command (did you mean %s?)", words, strings.TrimSpace(pathName(path)+" "+near))
	}
	return usage("%s: unknown command (there are %s)", words, strings.Join(names, ", "))
}

// pathName is the command's words, "eval knn".
func pathName(path []*ucli.Command) string {
	words := make([]string, len(path))
	for i, c := range path {
		words[i] = c.Name
	}
	return strings.Join(words, " ")
}

func dashed(flag string) string {
	if len(flag) == 1 {
		return "-" + flag
	}
	return "--" + flag
}

// nearest is the name that few edits turn the word into, or "".
func nearest(word string, names []string) string {
	best, distance := "", 1+max(1, (len(word)+2)/3)
	slices.Sort(names)
	for _, name := range names {
		if d := edits(word, name); d < distance && d < len(name) {
			best, distance = name, d
		}
	}
	if best == "" && len(word) > 1 {
		for _, name := range names {
			if strings.HasPrefix(name, word) {
				return name
			}
		}
	}
	return best
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// positionals checks a command's arguments against their names. A name that
// ends in "…" takes one or more, one in brackets may be absent.
func positionals(c *ucli.Context, names []string) ([]string, error) {
	args := c.Args().Slice()
	least, most := 0, len(names)
	for _, name := range names {
		if !strings.HasPrefix(name, "[") {
			least++
		}
		if strings.Contains(name, "…") {
			most = len(args) + 1
		}
	}
	switch {
	case len(args) < least:
		return nil, usage("%s: missing %s (membank %s --help shows an example)", commandName(c), strings.Trim(names[len(args)], "[]"), commandName(c))
	case len(args) > most:
		return nil, usage("%s: unexpected argument %q (%s)", commandName(c), args[most], takes(names))
	}
	return args, nil
}

func takes(names []string) string {
	if len(names) == 0 {
		return "it takes none"
	}
	return fmt.Sprintf("it takes %s", strings.Join(names, " "))
}

// commandName is the command's words as errors begin with them: "eval knn".
func commandName(c *ucli.Context) string {
	if c.Command == nil {
		return ""
	}
	return strings.TrimPrefix(strings.TrimPrefix(c.Command.HelpName, "membank"), " ")
}
