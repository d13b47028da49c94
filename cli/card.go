package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"membank/simd"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// card is a protocol card: what a command found, what it was asked, and digests of
// the rows that it read, so that another person can make the figures again.
type card struct {
	Format  int             `json:"membank_card"` // cardFormat
	Version string          `json:"version"`      // of the membank that wrote it
	SIMD    string          `json:"simd"`         // its kernels
	Argv    []string        `json:"argv"`         // words, --flag=value…, then -- and the positionals
	Banks   []cardBank      `json:"banks"`        // in the order they were read
	Result  json.RawMessage `json:"result"`       // what the command prints with --json
}

const cardFormat = 1

// cardBank is a bank as the command read it.
type cardBank struct {
	Bank    string `json:"bank"`
	Rows    int64  `json:"rows"`
	Dim     int    `json:"dim"`
	Grouped bool   `json:"grouped"` // by an index: sums may round otherwise
	SHA256  string `json:"sha256"`  // of bankDigest
}

// cardFlag is taken by every command whose run a card can record.
func cardFlag() ucli.Flag {
	return &ucli.StringSliceFlag{Name: "card", Usage: "write a protocol card to `FILE`: .json or .md; may be given several times"}
}

// withCards gives commands the flag.
func withCards(commands ...*ucli.Command) []*ucli.Command {
	for _, c := range commands {
		c.Flags = append(c.Flags, cardFlag())
	}
	return commands
}

// cardRun collects a card while its command runs.
type cardRun struct {
	card
	paths []string // where it goes; none: card check compares it
}

// newCardRun begins the card that --card asks for, nil if it does not. What is
// wrong with the names of its files is found before the work.
func newCardRun(c *ucli.Context, s *session) (*cardRun, error) {
	if r, is := c.App.Metadata["card"].(*cardRun); is {
		return r, nil
	}
	paths := c.StringSlice("card")
	if len(paths) == 0 {
		return nil, nil
	}
	if s.remote != nil {
		return nil, usage("%s: --card works on a directory, not on a server (run it where the database is, with --db DIR)", s.name)
	}
	for _, name := range []string{"write", "save"} {
		if c.Bool(name) {
			return nil, usage("%s: --card is for a run that changes nothing (leave out --%s)", s.name, name)
		}
	}
	if _, harmless := recordable(strings.Fields(s.name)); harmless != "" && !c.Bool(harmless) {
		return nil, usage("%s: --card is for a run that changes nothing (give --%s)", s.name, harmless)
	}
	for _, path := range paths {
		if ext := strings.ToLower(filepath.Ext(path)); ext != ".json" && ext != ".md" {
			return nil, usage("--card %s: unknown kind of file (.json or .md)", path)
		}
		switch info, err := os.Stat(filepath.Dir(path)); {
		case err != nil:
			return nil, notFound("--card %s: there is no directory %s (make it first)", path, filepath.Dir(path))
		case !info.IsDir():
			return nil, usage("--card %s: %s is no directory (name one)", path, filepath.Dir(path))
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return nil, usage("--card %s: is a directory (name a file)", path)
		}
	}
	return &cardRun{card: emptyCard(cardArgv(c)), paths: paths}, nil
}

func emptyCard(argv []string) card {
	return card{Format: cardFormat, Version: version(), SIMD: string(simd.Active()), Argv: argv, Banks: []cardBank{}}
}

// unrecorded are flags that no card holds: they say where results go, not what they
// are, or change a bank.
var unrecorded = []string{"output", "card", "images", "plots", "write", "save"}

// cardArgv is a command line in the one order that card check reads.
func cardArgv(c *ucli.Context) []string {
	argv := strings.Fields(commandName(c))
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if !c.IsSet(name) || slices.Contains(unrecorded, name) {
			continue
		}
		switch f.(type) {
		case *ucli.StringSliceFlag:
			for _, value := range c.StringSlice(name) {
				argv = append(argv, "--"+name+"="+value)
			}
		case *ucli.BoolFlag:
			if c.Bool(name) {
				argv = append(argv, "--"+name)
			}
		default:
			argv = append(argv, "--"+name+"="+c.String(name))
		}
	}
	if c.Args().Present() {
		argv = append(append(argv, "--"), c.Args().Slice()...)
	}
	return argv
}

// computesAgain reports whether this is a run of card check: it writes no file.
func (r *cardRun) computesAgain() bool { return r != nil && len(r.paths) == 0 }

// uses tells the card, if one is under way, of banks that the command is to read.
func (s *session) uses(ctx context.Context, banks ...*store.Snapshot) error {
	for _, b := range banks {
		if s.card == nil || slices.ContainsFunc(s.card.Banks, func(k cardBank) bool { return k.Bank == b.Bank() }) {
			continue
		}
		if err := s.digest(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) digest(ctx context.Context, snap *store.Snapshot) error {
	progress := s.newBar("digest of "+snap.Bank(), "rows", snap.Info().Rows)
	defer progress.close()
	digest, err := bankDigest(ctx, snap, progress.set)
	if err != nil {
		return err
	}
	info := snap.Info()
	s.card.Banks = append(s.card.Banks, cardBank{info.Bank, info.Rows, info.Dim, !snap.InRowOrder(), digest})
	return nil
}

// found tells the card of the result.
func (r *cardRun) found(document any) error {
	var b bytes.Buffer
	if err := printJSON(&b, document); err != nil {
		return err
	}
	r.Result = bytes.TrimSpace(b.Bytes())
	return nil
}

// write gives the card its files.
func (r *cardRun) write(s *session) error {
	if len(r.paths) == 0 {
		return nil
	}
	if len(r.Banks) == 0 || len(r.Result) == 0 {
		return usage("%s: this run read no bank, so there is nothing to put on a card (leave out --card)", s.name)
	}
	for _, path := range r.paths {
		render := r.renderJSON
		if strings.EqualFold(filepath.Ext(path), ".md") {
			render = r.renderMarkdown
		}
		text, err := render()
		if err != nil {
			return err
		}
		file, err := createFile(path)
		if err != nil {
			return err
		}
		defer file.discard()
		file.Write(text) // keep has the error
		if err := file.keep(); err != nil {
			return err
		}
	}
	return nil
}

// renderJSON is a card for programs, indented so that a change shows in a diff.
func (c *card) renderJSON() ([]byte, error) {
	var b, indented bytes.Buffer
	if err := printJSON(&b, c); err != nil {
		return nil, err
	}
	if err := json.Indent(&indented, b.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	return indented.Bytes(), nil
}
