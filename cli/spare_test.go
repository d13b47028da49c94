package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

// What one request sets is gone at the next, whatever kind of flag it is, and a
// command that a request runs sees what it would see from the command line.
func TestSpareCommandsForget(t *testing.T) {
	for _, route := range serveRoutes() {
		words := route.Command
		command := spare(words)
		if line := find(words); line == nil || len(line.Flags) != len(command.Flags) {
			t.Fatalf("%v: %v", words, line)
		}
		flags := map[string][]string{}
		for _, p := range route.Params {
			switch {
			case p.Switch:
				flags[p.Name] = []string{"true"}
			case p.Many:
				flags[p.Name] = []string{"--json", "b,c"}
			default:
				flags[p.Name] = []string{"-x y"}
			}
		}
		var first, again, fresh string
		look := func(to *string) ucli.ActionFunc {
			return func(c *ucli.Context) error { *to = seenFlags(c); return nil }
		}
		run := func(c *spareCommand, to *string, flags map[string][]string, args ...string) {
			t.Helper()
			kept := c.Action
			c.Action = look(to)
			defer func() { c.Action = kept }()
			app := &ucli.App{Reader: strings.NewReader(""), Writer: &bytes.Buffer{}, ErrWriter: &bytes.Buffer{}}
			if err := c.run(context.Background(), app, true, flags, args); err != nil {
				t.Fatalf("%v: %v", words, err)
			}
		}
		run(command, &first, flags, "--json", "a b")
		for name, values := range flags {
			is := func(format string, v any) bool {
				return strings.Contains(first, fmt.Sprintf("\n"+name+" set "+format+"\n", v))
			}
			if !is("%q", values) && !is("%v", values[0]) && !is("%q", values[0]) {
				t.Errorf("%v: flag %s is not %q in\n%s", words, name, values, first)
			}
		}
		if !strings.Contains(first, `args ["--json" "a b"]`) {
			t.Errorf("%v: %s", words, first)
		}
		run(command, &again, nil)
		line := find(words)
		line.HideHelp, line.Action = true, look(&fresh)
		app := newApp(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
		withoutHelp(app)
		app.Commands = []*ucli.Command{line}
		for i := len(words) - 2; i >= 0; i-- {
			app.Commands = []*ucli.Command{{Name: words[i], HideHelp: true, Subcommands: app.Commands}}
		}
		if err := app.RunContext(context.Background(), append([]string{"membank", "--json"}, words...)); err != nil {
			t.Fatalf("%v: %v", words, err)
		}
		if again != fresh {
			t.Errorf("%v: a request sees\n%s\nthe command line\n%s", words, again, fresh)
		}
		command.done()
	}
}

// seenFlags is all that a command can see of its flags and positionals.
func seenFlags(c *ucli.Context) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s json %v args %q\n", commandName(c), c.Bool("json"), c.Args().Slice())
	for _, f := range c.Command.Flags {
		name, set := f.Names()[0], "not set"
		if c.IsSet(name) {
			set = "set"
		}
		switch f.(type) {
		case *ucli.BoolFlag:
			fmt.Fprintf(&b, "%s %s %v\n", name, set, c.Bool(name))
		case *ucli.StringSliceFlag:
			fmt.Fprintf(&b, "%s %s %q\n", name, set, c.StringSlice(name))
		default:
			fmt.Fprintf(&b, "%s %s %q\n", name, set, c.String(name))
		}
	}
	return b.String()
}

// A spare command's flags keep what the environment says, so none may ask it.
func TestServedFlagsAskNoEnvironment(t *testing.T) {
	for _, route := range routeTable {
		for _, f := range spare(route.command).Flags {
			if d, ok := f.(ucli.DocGenerationFlag); !ok || len(d.GetEnvVars()) > 0 {
				t.Errorf("%v: flag %s", route.command, f.Names()[0])
			}
		}
	}
}

// A few bytes of a request must not make the server set aside more than it may: the
// same rows, and rows that are drawn, can be asked for without end.
func TestReadingsOfAMemoryBankAreBounded(t *testing.T) {
	s := startServer(t, t.TempDir()+"/db", "--quiet")
	must(t, "bank", "init", "m", "--rows", "100", "--dim", "256", "--db", s.url)
	before := must(t, "bank", "get", "m", "--db", s.url)
	body := namedOf(t, []int64{1}, make([]float32, 256), 256)
	for _, n := range []string{"100000000", "9000000000000000000"} {
		a := s.ask(t, "POST", "/v1/memory/m/update?renorm=none&output=x.npz&negatives="+n, "application/x-npz", body)
		if a.status != 422 || !strings.Contains(a.text, "several batches") {
			t.Errorf("%s negatives: %d %s", n, a.status, a.text)
		}
	}
	ids := make([]int64, 1_200_000)
	a := s.ask(t, "POST", "/v1/memory/m/get?output=x.npz", "application/x-npz", npzOf(t, "ids", ids))
	if a.status != 422 || !strings.Contains(a.text, "several batches") {
		t.Errorf("%d ids: %d %s", len(ids), a.status, a.text)
	}
	for _, query := range []string{"n=20000000", "n=9000000000000000000", "n=1000&anchors=100000&output=x.npy"} {
		if a := s.ask(t, "POST", "/v1/memory/m/sample?"+query, "", nil); a.status != 422 || !strings.Contains(a.text, "several batches") {
			t.Errorf("%s: %d %s", query, a.status, a.text)
		}
	}
	if a := s.ask(t, "POST", "/v1/memory/m/nearest?k=100&with-vectors=true&output=x.npz", "application/x-npz", npzOf256(t, 20_000)); a.status != 422 || !strings.Contains(a.text, "several batches") {
		t.Errorf("vectors of 2,000,000 neighbours: %d %s", a.status, a.text)
	}
	if after := must(t, "bank", "get", "m", "--db", s.url); after != before {
		t.Error("the bank changed")
	}
}

// npzOf256 is a batch of vectors.
func npzOf256(t *testing.T, rows int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := dump.NewNPZWriter(&b)
	err := z.Write("vectors", make([]float32, 256*rows), rows, 256)
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
