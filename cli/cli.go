package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	ucli "github.com/urfave/cli/v2"
)

// Main runs the process's own arguments and streams and returns the exit code.
// The first interrupt cancels the work, which leaves every bank as it was; the
// second one ends the process at once, which is as safe: a bank changes in one
// step or not at all.
func Main() int {
	if exit, is := tortureChild(); is {
		return exit
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return Run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
}

// Run is the whole program: args[0] is the program's name, results go to stdout
// and all else to stderr, and the value is the exit code. Nothing in it reads or
// writes the process's own streams, so a test runs a session in-process. It is
// not safe for concurrent use when --memory is given, which sets the runtime's
// own limit.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	var asJSON bool
	defer func() {
		if p := recover(); p != nil {
			fault := fmt.Errorf("internal error: %v (this is a bug of membank; please report it with the command you ran)", p)
			code = report(stderr, fault, asJSON)
			if os.Getenv("MEMBANK_LOG_LEVEL") == "debug" {
				stderr.Write(debug.Stack())
			}
		}
	}()
	app := newApp(stdin, stdout, stderr)
	asJSON = mentions(args, "json")
	ordered, err := reorder(app, args)
	if err == nil {
		app.Metadata = map[string]any{"line": commandLine(args)}
		err = app.RunContext(ctx, ordered)
	}
	if err != nil {
		// An error that the cancelled context caused, however it was worded on
		// its way up, is an interruption to the person at the keyboard.
		if ctx.Err() != nil {
			err = &failure{exit: exitInterrupted, code: "interrupted", text: "interrupted (nothing was changed; run it again)", err: context.Canceled}
		}
		return report(stderr, err, asJSON)
	}
	return exitOK
}

// commandLine is the command as it could be typed again, for a bank's provenance.
func commandLine(args []string) string {
	words := []string{"membank"}
	for _, a := range args[1:] {
		if a == "" || strings.ContainsAny(a, " \t\n\"'`$&|;<>()*?[]#~\\!{}") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// newApp wires the table of commands to the streams.
func newApp(stdin io.Reader, stdout, stderr io.Writer) *ucli.App {
	app := &ucli.App{
		Name:                      "membank",
		HelpName:                  "membank",
		Usage:                     "keep embeddings, find their exact neighbours, score them",
		UsageText:                 "membank COMMAND [arguments and flags in any order]",
		Version:                   version(),
		Commands:                  commands(),
		Flags:                     globalFlags(),
		Reader:                    stdin,
		Writer:                    stdout,
		ErrWriter:                 stderr,
		EnableBashCompletion:      true,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		CustomAppHelpTemplate:     appHelp,
		ExitErrHandler:            func(*ucli.Context, error) {},
		OnUsageError:              onUsageError,
	}
	plain(app.Flags)
	for _, c := range app.Commands {
		prepare(c)
	}
	return app
}

// prepare gives a command and those below it the settings all of them share.
func prepare(c *ucli.Command) {
	c.HideHelpCommand = true
	c.OnUsageError = onUsageError
	c.CustomHelpTemplate = commandHelp
	plain(c.Flags)
	for _, sub := range c.Subcommands {
		prepare(sub)
	}
}

// plain leaves "(default: false)" out of the help.
func plain(flags []ucli.Flag) {
	for _, f := range flags {
		if b, ok := f.(*ucli.BoolFlag); ok {
			b.DisableDefaultText = true
		}
	}
}

func onUsageError(c *ucli.Context, err error, _ bool) error {
	return usage("%s: %v", commandName(c), strings.TrimPrefix(err.Error(), "flag: "))
}

// commands is the table of verbs, in the order a newcomer meets them.
func commands() []*ucli.Command {
	return []*ucli.Command{
		demoCommand(),
		ingestCommand(),
		lsCommand(),
		showCommand(),
		getCommand(),
		queryCommand(),
		evalCommand(),
		diagnoseCommand(),
		compareCommand(),
		cardCommand(),
		reportCommand(),
		duplicatesCommand(),
		labelErrorsCommand(),
		rankCommand(),
		selectCommand(),
		graphCommand(),
		clusterCommand(),
		bankCommand(),
		exportCommand(),
		rmCommand(),
		indexCommand(),
		compactCommand(),
		verifyCommand(),
		repairCommand(),
		doctorCommand(),
		serveCommand(),
		pythonClientCommand(),
		benchCommand(),
		completionCommand(),
		versionCommand(),
	}
}

// globalFlags are the flags every command takes, before it or after it.
func globalFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.StringFlag{Name: "db", Usage: "the database `DIR`, or the http://host:port of a membank serve", Value: "membank.db", EnvVars: []string{"MEMBANK_DB"}},
		&ucli.StringFlag{Name: "token-file", Usage: "the token of the server in `FILE`", EnvVars: []string{"MEMBANK_TOKEN_FILE"}},
		&ucli.BoolFlag{Name: "json", Usage: "print JSON for programs instead of tables for people"},
		&ucli.StringFlag{Name: "threads", Usage: "use `N` threads (default: all cores)", EnvVars: []string{"MEMBANK_THREADS"}},
		&ucli.StringFlag{Name: "memory", Usage: "work within `SIZE`, e.g. 512MiB or 2g", EnvVars: []string{"MEMBANK_MEMORY"}},
		&ucli.BoolFlag{Name: "quiet", Usage: "no progress and no remarks on stderr, errors only"},
		&ucli.StringFlag{Name: "log-level", Usage: "log from `LEVEL` on: debug, info, warn, error", Value: "warn", EnvVars: []string{"MEMBANK_LOG_LEVEL"}},
	}
}

const appHelp = `{{.Name}} - {{.Usage}}

Usage: {{.UsageText}}

Commands:{{range .VisibleCommands}}
  {{printf "%-14s" .Name}}{{.Usage}}{{end}}

Flags of every command:
{{range .VisibleFlags}}  {{.}}
{{end}}
Start with "membank demo"; "membank COMMAND --help" explains one command.
`

const commandHelp = `{{.HelpName}} - {{.Usage}}

Usage: {{.HelpName}}{{if .Subcommands}} COMMAND{{end}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}{{if .VisibleFlags}} [flags]{{end}}
{{if .Description}}
{{.Description}}
{{end}}{{if .VisibleCommands}}
Commands:{{range .VisibleCommands}}
  {{printf "%-14s" .Name}}{{.Usage}}{{end}}
{{end}}{{if .VisibleFlags}}
Flags:
{{range .VisibleFlags}}  {{.}}
{{end}}{{end}}
Flags of every command: --db DIR|URL, --token-file FILE, --json, --threads N, --memory SIZE, --quiet, --log-level LEVEL.
`
