package cli

import (
	"bytes"
	"fmt"
	"strings"
)

// The card itself stands at the end of a Markdown card between these lines.
const (
	cardBegins = "\n```json\n"
	cardEnds   = "```\n"
)

// renderMarkdown is a card for a paper's appendix. It holds the whole card, so that
// card check reads it, too.
func (c *card) renderMarkdown() ([]byte, error) {
	figures, err := figuresOf(c.Result)
	if err != nil {
		return nil, err
	}
	document, err := c.renderJSON()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Protocol card: %s\n\n", cell(strings.Join(cardWords(c.Argv), " ")))
	fmt.Fprintf(&b, "    %s\n\n", printable(commandLine(append([]string{"membank"}, c.Argv...))))
	fmt.Fprintf(&b, "membank %s, %s kernels.\n\n", cell(c.Version), cell(c.SIMD))
	b.WriteString("| Bank | Rows | Dim | SHA-256 of vectors, labels and keys |\n|---|---:|---:|---|\n")
	for _, k := range c.Banks {
		fmt.Fprintf(&b, "| %s | %s | %d | `%s` |\n", cell(k.Bank), count(k.Rows), k.Dim, cell(k.SHA256))
	}
	b.WriteString("\n| Figure | Value |\n|---|---|\n")
	for _, f := range brief(figures) {
		fmt.Fprintf(&b, "| %s | %s |\n", cell(f.path), cell(f.value))
	}
	fmt.Fprintf(&b, "\n`membank card check` computes these again from this:\n%s%s%s", cardBegins, document, cardEnds)
	return b.Bytes(), nil
}

// cardWords are the command's own, before its flags and positionals.
func cardWords(argv []string) []string {
	for i, a := range argv {
		if strings.HasPrefix(a, "-") {
			return argv[:i]
		}
	}
	return argv
}

// cell sets text in a table of Markdown as it is.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "`", "'", "[", `\[`).Replace(printable(text))
}
