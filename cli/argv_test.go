package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	ucli "github.com/urfave/cli/v2"
)

// leaf is a command that can be run, with its words.
type leaf struct {
	words   []string
	command *ucli.Command
}

func leaves(path []string, commands []*ucli.Command) []leaf {
	var all []leaf
	for _, c := range commands {
		words := append(slices.Clone(path), c.Name)
		if len(c.Subcommands) == 0 {
			all = append(all, leaf{words, c})
		}
		all = append(all, leaves(words, c.Subcommands)...)
	}
	return all
}

// capture replaces the action of every command by one that notes what it was given.
func capture(app *ucli.App, into *string) {
	for _, l := range leaves(nil, app.Commands) {
		l.command.Action = func(c *ucli.Context) error {
			var seen []string
			for _, f := range append(c.Command.Flags, globalFlags()...) {
				name := f.Names()[0]
				if c.IsSet(name) {
					seen = append(seen, fmt.Sprintf("%s=%v", name, c.Value(name)))
				}
			}
			slices.Sort(seen)
			*into = fmt.Sprint(commandName(c), slices.Compact(seen), c.Args().Slice())
			return nil
		}
	}
}

// parse runs a command line and returns what its command was given.
func parse(t *testing.T, args ...string) (string, error) {
	t.Helper()
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	var got string
	capture(app, &got)
	ordered, err := reorder(app, append([]string{"membank"}, args...))
	if err != nil {
		return "", err
	}
	return got, app.RunContext(context.Background(), ordered)
}

// Every flag of every command, and every global one, means the same before the
// command, before its arguments, between them and after them, in all spellings.
func TestFlagsOnEitherSide(t *testing.T) {
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	for _, l := range leaves(nil, app.Commands) {
		for _, f := range append(slices.Clone(l.command.Flags), globalFlags()...) {
			_, isBool := f.(*ucli.BoolFlag)
			for _, name := range f.Names() {
				flag := dashed(name)
				spellings := [][]string{{flag, "-7"}, {flag + "=-7"}}
				if isBool {
					spellings = [][]string{{flag}, {flag + "=true"}}
				}
				value := "-7"
				if isBool {
					value = "true"
				}
				if _, ok := f.(*ucli.StringSliceFlag); ok {
					value = "{[-7] true}"
				}
				want := fmt.Sprintf("%s[%s=%s] [one -2]", strings.Join(l.words, " "), f.Names()[0], value)
				if strings.Contains(value, "{") {
					want = ""
				}
				for _, s := range spellings {
					lines := [][]string{
						slices.Concat(l.words, s, []string{"one", "-2"}),
						slices.Concat(l.words, []string{"one"}, s, []string{"-2"}),
						slices.Concat(l.words, []string{"one", "-2"}, s),
						slices.Concat(l.words, s, []string{"--", "one", "-2"}),
					}
					if slices.ContainsFunc(globalFlags(), func(g ucli.Flag) bool { return g.Names()[0] == f.Names()[0] }) {
						lines = append(lines, slices.Concat(s, l.words, []string{"one", "-2"}))
					}
					first := ""
					for _, line := range lines {
						got, err := parse(t, line...)
						if err != nil {
							t.Fatalf("%q: %v", line, err)
						}
						if first == "" {
							first = got
						}
						if got != first || want != "" && got != want {
							t.Errorf("%q gives %s, want %s", line, got, cmpOr(want, first))
						}
					}
				}
			}
		}
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// The tables agree on which names take a value, so that a command's words can be
// found before its table is known.
func TestFlagTablesAgree(t *testing.T) {
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	seen := map[string]bool{}
	for _, l := range leaves(nil, app.Commands) {
		for name, takes := range flagTable(append(slices.Clone(l.command.Flags), globalFlags()...)) {
			if before, ok := seen[name]; ok && before != takes {
				t.Errorf("%s takes a value in one command and none in another", name)
			}
			seen[name] = takes
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	for line, want := range map[string]string{
		"qurey":                                       "qurey: unknown command (did you mean query?)",
		"eval kn --train a":                           "eval kn: unknown command (did you mean eval knn?)",
		"query a --metirc l2":                         "query: unknown flag --metirc (did you mean --metric?)",
		"query a b --row 1":                           `query: unexpected argument "b" (it takes BANK)`,
		"query":                                       "query: missing BANK (membank query --help shows an example)",
		"query a --row":                               "query: flag --row needs a value",
		"query a --row --exact":                       "query: flag --row needs a value",
		"query a":                                     "query: ask with one of --vectors FILE, --key KEY, --row N, --from BANK",
		"query a --row 0 --from b":                    "query: ask with one of",
		"query a --row x":                             `"x" is not a row number`,
		"query a --row 0 -k x":                        "-k x: not a number of neighbours",
		"query a --row 0 -k 0":                        "-k 0: not a number of neighbours",
		"query a --row 0 -k -1":                       "-k -1: not a number of neighbours",
		"query a --row 0 --metric foo":                "--metric foo: no such metric",
		"query a --row 0 --nprobe 0":                  "--nprobe 0: not a number of lists",
		"query a --row 0 --recall 2":                  "--recall 2: not a recall",
		"query a --row 0 --min-score x":               "--min-score x: not a number",
		"query a --row 0 --exact --recall 1":          "exclude each other",
		"query a --vectors f --exclude-self":          "--exclude-self needs queries that are rows of a",
		"query a --from b --exclude-self":             "--exclude-self needs queries that are rows of a",
		"query a --row 0 --images d":                  "--images is for -o FILE.html",
		"bench search -k 20,x":                        `-k 20,x: "x" is not a number of neighbours`,
		"bench search --noise x":                      "--noise x: not a share",
		"bench evaluate --rows 5 --size 1g":           "--rows and --size exclude each other",
		"index codes":                                 "index codes: missing BANK (membank index codes --help shows an example)",
		"index code a":                                "index code: unknown command (did you mean index codes?)",
		"index codes a --relern":                      "index codes: unknown flag --relern (did you mean --relearn?)",
		"get a":                                       "name the rows with --key or with --rows",
		"get a --rows 0 --key b":                      "name the rows with --key or with --rows",
		"rm a --keys f --where true":                  "--keys and --where exclude each other",
		"export a":                                    "where to?",
		"ingest a":                                    "ingest: missing FILE…",
		"ingest a f --append --replace":               "--append and --replace exclude each other",
		"ingest a f --dtype f64":                      "--dtype f64: unknown (f32 or f16)",
		"ingest ../a f":                               "not a valid name",
		"eval knn":                                    "which bank votes?",
		"eval knn --train a":                          "which bank is classified?",
		"eval knn --train a --test b -k 0":            "-k 0:",
		"eval knn --train a --test b -T 0":            "-T 0: not a temperature",
		"eval knn --train a --test b --protocol nope": "nope",
		"eval knn --train a --test b --protocol msf-1 -T 1": "no temperature",
		"ls --threads 0":                    "--threads 0: not a number of threads",
		"ls --memory lots":                  `--memory: "lots" is not a size`,
		"ls --memory 1k":                    "--memory 1k: too little",
		"ls --log-level loud":               "--log-level loud: unknown",
		"ls --db ftp://127.0.0.1:7700":      "neither a directory nor a server",
		"verify --db http://127.0.0.1:7700": "works on a directory, not on a server",
		"verify extra":                      `unexpected argument "extra" (it takes none)`,
		"completion tcsh":                   "no completion for that shell",
		"--wrong":                           "unknown flag --wrong",
	} {
		t.Run(line, func(t *testing.T) {
			var out, errs bytes.Buffer
			t.Chdir(t.TempDir())
			code := Run(context.Background(), append([]string{"membank"}, strings.Fields(line)...), strings.NewReader(""), &out, &errs)
			if code != exitUsage || !strings.Contains(errs.String(), want) || strings.Count(errs.String(), "\n") != 1 || out.Len() > 0 {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit 2 and %q", code, out.String(), errs.String(), want)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	names := []string{"query", "export", "show", "ls", "k"}
	for word, want := range map[string]string{"qeury": "query", "exprot": "export", "exp": "export", "zebra": "", "sl": "", "j": "", "shows": "show"} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

// Completion never runs a command.
func TestCompletionRunsNothing(t *testing.T) {
	for _, line := range []string{"", "query --m", "query --", "rm b --", "ingest b --", "eval"} {
		app := newApp(strings.NewReader(""), io.Discard, io.Discard)
		var ran string
		capture(app, &ran)
		args := append([]string{"membank"}, strings.Fields(line)...)
		ordered, err := reorder(app, append(args, "--generate-bash-completion"))
		if err == nil {
			err = app.RunContext(context.Background(), ordered)
		}
		if err != nil || ran != "" {
			t.Errorf("%q: ran %q, %v", line, ran, err)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if r := run(t, "completion", shell); r.code != exitOK || !strings.Contains(r.out, "membank") {
			t.Errorf("%s: exit %d", shell, r.code)
		}
	}
}
