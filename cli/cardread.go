package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	ucli "github.com/urfave/cli/v2"
)

// maxCard bounds what is read of a card: results are some hundred KiB at most.
const maxCard = 64 << 20 // bytes

// readCard reads a card of either kind. Whatever is wrong with it is bad input. text
// names what its Markdown says beside its data, which nobody but an editor changes.
func readCard(path string) (c *card, figures []cardFigure, text []difference, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("card %s: %w", path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, nil, nil, badInput("card %s: is no file (name a card)", path)
	}
	whole, err := io.ReadAll(io.LimitReader(f, maxCard+1))
	if err != nil {
		return nil, nil, nil, fmt.Errorf("card %s: %w", path, err)
	}
	if len(whole) > maxCard {
		return nil, nil, nil, badInput("card %s: larger than %s (no card is)", path, size(maxCard))
	}
	document, markdown := whole, false
	if from := bytes.LastIndex(whole, []byte(cardBegins)); from >= 0 {
		markdown = true
		document, markdown = bytes.CutSuffix(whole[from+len(cardBegins):], []byte(cardEnds))
		if !markdown {
			return nil, nil, nil, badInput("card %s: its data does not end (take a whole copy)", path)
		}
	}
	if c, err = parseCard(document); err == nil {
		figures, err = figuresOf(c.Result)
	}
	if err != nil {
		return nil, nil, nil, badInput("card %s: %s (take a whole copy, or write it again with --card)", path, printable(err.Error()))
	}
	text = []difference{}
	if markdown {
		again, err := c.renderMarkdown()
		if err != nil {
			return nil, nil, nil, err
		}
		text = changedLines(whole, again)
	}
	return c, figures, text, nil
}

// changedLines are lines of a Markdown card that are not what its data make.
func changedLines(was, is []byte) []difference {
	list := []difference{}
	a, b := strings.Split(string(was), "\n"), strings.Split(string(is), "\n")
	for i := range max(len(a), len(b)) {
		x, y := absent, absent
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return append(list, difference{"text", fmt.Sprintf("line %d of the Markdown is not what its data say", i+1), x, y})
		}
	}
	return list
}

var isSHA256 = regexp.MustCompile(`^[0-9a-f]{64}$`)

// parseCard reads and checks the data of a card.
func parseCard(document []byte) (*card, error) {
	var c card
	d := json.NewDecoder(bytes.NewReader(document))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil, fmt.Errorf("ends too soon")
		}
		return nil, fmt.Errorf("is no protocol card: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("goes on behind its end")
	}
	switch {
	case c.Format == 0:
		return nil, fmt.Errorf("is no protocol card: it holds no membank_card")
	case c.Format != cardFormat:
		return nil, fmt.Errorf("is a card of format %d, and this membank reads %d", c.Format, cardFormat)
	case len(c.Banks) == 0:
		return nil, fmt.Errorf("names no bank")
	case len(c.Result) == 0 || c.Result[0] != '{':
		return nil, fmt.Errorf("holds no result")
	}
	for _, b := range c.Banks {
		if b.Bank == "" || b.Rows < 0 || b.Dim < 1 || !isSHA256.MatchString(b.SHA256) {
			return nil, fmt.Errorf("bank %q has no rows, dim and sha256 that could be a bank's", b.Bank)
		}
	}
	if _, err := cardTokens(c.Argv); err != nil {
		return nil, err
	}
	return &c, nil
}

// cardTokens are the arguments of a card's command, as the table of commands reads
// them, if it is one that a card may run: it computes and writes nothing.
func cardTokens(argv []string) ([]string, error) {
	name := cardWords(argv)
	c, harmless := recordable(name)
	if c == nil {
		return nil, fmt.Errorf("argv runs %q, and a card runs only eval, %s", strings.Join(name, " "), strings.Join(recordedNames(), ", "))
	}
	if harmless != "" && !slices.Contains(argv[len(name):], "--"+harmless) {
		return nil, fmt.Errorf("argv runs %s without --%s, and a card changes nothing", strings.Join(name, " "), harmless)
	}
	tokens := slices.Clone(name)
	for i, token := range argv[len(name):] {
		if token == "--" {
			return append(tokens, argv[len(name)+i:]...), nil
		}
		flag, _, valued := strings.Cut(strings.TrimPrefix(token, "--"), "=")
		if !strings.HasPrefix(token, "--") || slices.Contains(unrecorded, flag) {
			return nil, fmt.Errorf("argv holds %q, which no card does", token)
		}
		known := slices.IndexFunc(c.Flags, func(f ucli.Flag) bool { return f.Names()[0] == flag })
		if known < 0 {
			return nil, fmt.Errorf("argv holds %q, which is no parameter of %s", token, strings.Join(name, " "))
		}
		if _, isSwitch := c.Flags[known].(*ucli.BoolFlag); isSwitch == valued {
			return nil, fmt.Errorf("argv holds %q, which is not how a card writes that flag", token)
		}
		tokens = append(tokens, token)
	}
	return append(tokens, "--"), nil
}

// recorded are the commands whose runs a card can record, beside those of eval. The
// one that changes a bank unless it is told not to has the flag that tells it.
func recorded() []recordedCommand {
	return []recordedCommand{
		{command: diagnoseCommand()}, {command: compareCommand()}, {command: clusterCommand(), harmless: "no-attribute"}, {command: duplicatesCommand()},
		{command: labelErrorsCommand()}, {command: rankCommand()}, {command: selectCommand()}, {command: reportCommand()},
	}
}

type recordedCommand struct {
	command  *ucli.Command
	harmless string
}

func recordedNames() (names []string) {
	for _, r := range recorded() {
		names = append(names, r.command.Name)
	}
	return names
}

// recordable is the command of that name if a card can record it, and the flag
// without which it cannot, if there is one.
func recordable(name []string) (c *ucli.Command, harmless string) {
	switch {
	case len(name) == 1:
		for _, r := range recorded() {
			if r.command.Name == name[0] {
				return r.command, r.harmless
			}
		}
	case len(name) == 2 && name[0] == "eval":
		for _, c := range evalCommand().Subcommands {
			if c.Name == name[1] {
				return c, ""
			}
		}
	}
	return nil, ""
}
