package cli

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"membank/index"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// bankLine is a bank in a list.
type bankLine struct {
	Bank       string `json:"bank"`
	Rows       int64  `json:"rows"`
	Dim        int    `json:"dim"`
	DType      string `json:"dtype"`
	Classes    int    `json:"classes"`
	NList      int    `json:"nlist"`
	Bytes      int64  `json:"bytes"`
	Generation uint64 `json:"generation"`
}

func lineOf(i store.Info) bankLine {
	return bankLine{i.Bank, i.Rows, i.Dim, i.DType.String(), i.Classes, index.ListCount(i.Lists), i.Bytes, i.Generation}
}

func lsCommand() *ucli.Command {
	return &ucli.Command{
		Name: "ls", Usage: "list the banks", ArgsUsage: "[PREFIX]",
		Description: "Lists the banks whose names begin with PREFIX, sorted by name.\n\n  membank ls simclr-r50/",
		Action: action([]string{"[PREFIX]"}, func(ctx context.Context, s *session, c *ucli.Context, args []string) error {
			prefix := c.Args().First()
			return s.reading(ctx, func(db *store.DB) error {
				// The error is about damaged banks; the others are listed all the same.
				infos, damage := db.Banks("")
				lines := []bankLine{}
				for _, info := range infos {
					if strings.HasPrefix(info.Bank, prefix) {
						lines = append(lines, lineOf(info))
					}
				}
				if err := s.emit(lines, func(w io.Writer) { printBanks(w, lines, s, prefix) }); err != nil {
					return err
				}
				return damage
			})
		}),
	}
}

func printBanks(w io.Writer, lines []bankLine, s *session, prefix string) {
	if len(lines) == 0 {
		which := ""
		if prefix != "" {
			which = " that begins with " + strconv.Quote(prefix)
		}
		s.remark("no bank%s in %s yet: membank ingest BANK FILE makes one", which, s.dir)
		return
	}
	rows := make([][]string, len(lines))
	for i, l := range lines {
		rows[i] = []string{l.Bank, count(l.Rows), strconv.Itoa(l.Dim), l.DType, count(l.Classes), size(l.Bytes), count(l.Generation)}
	}
	printTable(w, []column{left("bank"), number("rows"), number("dim"), left("dtype"), number("classes"), number("size"), number("generation")}, rows)
}

// bankCard is all that is known of a bank without reading its rows.
type bankCard struct {
	bankLine
	Deleted     int64              `json:"deleted"`
	ZeroVectors int64              `json:"zero_vectors"`
	Codes       *bankCodes         `json:"codes"` // null: none
	Attributes  []string           `json:"attributes"`
	ClassNames  []string           `json:"class_names"`
	Created     time.Time          `json:"created"`
	Sources     []store.Provenance `json:"sources"`
}

func showCommand() *ucli.Command {
	return &ucli.Command{
		Name: "show", Usage: "say all about one bank", ArgsUsage: "BANK",
		Description: "Shape, classes, attributes, and the files that the rows came from.\n\n  membank show simclr/train",
		Action: action([]string{"BANK"}, func(ctx context.Context, s *session, c *ucli.Context, args []string) error {
			return s.reading(ctx, func(db *store.DB) error {
				return snapshot(db, args[0], func(snap *store.Snapshot) error {
					i := snap.Info()
					codes, damage := index.DescribeCodes(snap)
					card := bankCard{
						bankLine: lineOf(i), Deleted: i.Next - i.Rows, ZeroVectors: i.ZeroVectors, Codes: codesOf(codes),
						Attributes: orEmpty(i.Attributes), ClassNames: orEmpty(i.ClassNames),
						Created: i.Created, Sources: i.Sources,
					}
					if err := s.emit(card, func(w io.Writer) { printCard(w, card) }); err != nil {
						return err
					}
					return damage
				})
			})
		}),
	}
}

// orEmpty makes a nil list print as [] in JSON.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func printCard(w io.Writer, c bankCard) {
	fields := [][2]string{
		{"bank", c.Bank},
		{"rows", count(c.Rows)},
		{"dim", strconv.Itoa(c.Dim)},
		{"dtype", c.DType},
		{"classes", classList(c.Classes, c.ClassNames)},
		{"size", size(c.Bytes)},
		{"generation", count(c.Generation)},
	}
	if c.NList > 1 {
		fields = append(fields, [2]string{"lists", count(c.NList) + " (membank index show " + c.Bank + " says more)"})
	}
	if c.Deleted > 0 {
		fields = append(fields, [2]string{"deleted rows", count(c.Deleted)})
	}
	if c.ZeroVectors > 0 {
		fields = append(fields, [2]string{"zero vectors", count(c.ZeroVectors) + " (their cosine with everything is 0)"})
	}
	if len(c.Attributes) > 0 {
		fields = append(fields, [2]string{"attributes", strings.Join(c.Attributes, ", ")})
	}
	if c.Codes != nil {
		fields = append(fields, [2]string{"codes", codesText(c.Codes, c.Dim)})
	} else if ok, _ := index.PaysOff(c.Rows, c.Dim); ok {
		fields = append(fields, [2]string{"codes", "none (membank index codes " + c.Bank + " makes them)"})
	}
	fields = append(fields, [2]string{"created", c.Created.Local().Format("2006-01-02 15:04:05")})
	for _, p := range c.Sources {
		for _, f := range p.Files {
			fields = append(fields, [2]string{"from", f.Name + ", " + size(f.Bytes) + ", " + p.Time.Local().Format("2006-01-02 15:04:05")})
		}
	}
	printFields(w, fields)
}

// classList is "10: cat, dog, …".
func classList(classes int, names []string) string {
	text := count(classes)
	if len(names) == 0 {
		return text
	}
	const most = 10
	if len(names) > most {
		return text + ": " + strings.Join(names[:most], ", ") + ", …"
	}
	return text + ": " + strings.Join(names, ", ")
}
