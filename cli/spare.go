package cli

import (
	"context"
	"flag"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	ucli "github.com/urfave/cli/v2"
)

// A spareCommand is a command of the table, ready for a request. To make the whole
// table at each, and to let the library find its way from the program's name to the
// command, took 0.3 ms, a tenth of a step of a training loop. The library's flags
// remember what they were given last, so one serves one request at a time, and is
// put aside for the next.
type spareCommand struct {
	*ucli.Command
	files map[string]bool // flags whose file an array of the body may stand for; true: several
	pool  *sync.Pool
}

// spareCommands are pools of them by the command's words.
var spareCommands sync.Map

// spare is a command for a request; done puts it back.
func spare(words []string) *spareCommand {
	title := strings.Join(words, " ")
	found, ok := spareCommands.Load(title)
	if !ok {
		found, _ = spareCommands.LoadOrStore(title, new(sync.Pool))
	}
	pool := found.(*sync.Pool)
	if c, ok := pool.Get().(*spareCommand); ok {
		return c
	}
	c := &spareCommand{Command: introduced(words), files: map[string]bool{}, pool: pool}
	for _, f := range c.Flags {
		if name := f.Names()[0]; name != "output" && namesFile(usageOf(f)) {
			_, c.files[name] = f.(*ucli.StringSliceFlag)
		}
	}
	return c
}

// introduced is a command that the library has found by its words once, at which it
// tells command and flags what the app wants of them.
func introduced(words []string) *ucli.Command {
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	withoutHelp(app)
	command := findIn(app.Commands, words)
	run := command.Action
	command.Action = func(*ucli.Context) error { return nil }
	if err := app.Run(append([]string{"membank"}, words...)); err != nil {
		panic(err) // words are of the table of routes
	}
	command.Action = run
	return command
}

func (c *spareCommand) done() { c.pool.Put(c) }

// title is the command's words as errors begin with them.
func (c *spareCommand) title() string { return strings.TrimPrefix(c.HelpName, "membank ") }

// fileFlag is the flag whose file an array of that name stands for; "": none.
func (c *spareCommand) fileFlag(name string) string {
	flag, number, numbered := strings.Cut(name, "_")
	many, is := c.files[flag]
	if !is || numbered && (!many || strings.Trim(number, "0123456789") != "") {
		return ""
	}
	return flag
}

// run runs the command as the command line would with these flags and positionals.
// Flags are set one by one, so that no value can pass for a flag.
func (c *spareCommand) run(ctx context.Context, app *ucli.App, json bool, flags map[string][]string, args []string) error {
	globals, own := flag.NewFlagSet("membank", flag.ContinueOnError), flag.NewFlagSet(c.Name, flag.ContinueOnError)
	globals.Bool("json", json, "")
	if err := setFlags(own, c.Flags, flags); err != nil {
		return usage("%s: %v", c.title(), err)
	}
	if err := own.Parse(append([]string{"--"}, args...)); err != nil {
		return err
	}
	cc := ucli.NewContext(app, own, ucli.NewContext(app, globals, &ucli.Context{Context: ctx}))
	cc.Command = c.Command
	return c.Action(cc)
}

// setFlags defines flags and sets those that are given.
func setFlags(set *flag.FlagSet, list []ucli.Flag, given map[string][]string) error {
	for _, f := range list {
		if err := f.Apply(set); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		for _, value := range given[name] {
			if err := set.Set(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}
