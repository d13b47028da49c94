package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"membank/index/memory"
	"membank/simd"

	ucli "github.com/urfave/cli/v2"
)

func bankAssignCommand() *ucli.Command {
	return &ucli.Command{
		Name: "assign", Usage: "assign a batch to prototypes by Sinkhorn (SwAV)", ArgsUsage: "NAME",
		Description: "Q = exp(scores/epsilon), then rows and columns are divided by their sums in turn,\n" +
			"so that all prototypes are used alike. The rows of a queue take part, scored with\n" +
			"the prototypes of now, once it is full; they are not printed. --other is the other\n" +
			"crop of the batch: the loss is that of predicting the assignment from it.\n\n" +
			"  membank bank assign swav/queue --vectors z.npy --prototypes c.npy -o q.npy\n" +
			"  membank bank assign swav/queue --vectors z1.npy --other z2.npy --prototypes c.npy -T 0.1 --json\n" +
			"  membank bank assign odc --vectors z.npy",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "vectors", Usage: "the batch: `FILE`"},
			&ucli.StringFlag{Name: "prototypes", Usage: "the prototypes: `FILE`", DefaultText: "those kept with slots"},
			&ucli.StringFlag{Name: "queue", Usage: "rows of the queue that take part, `WHICH`: " + names(memory.Olders), DefaultText: "full"},
			&ucli.StringFlag{Name: "epsilon", Usage: "regularisation `E`", DefaultText: "0.05"},
			&ucli.StringFlag{Name: "iterations", Usage: "`N` iterations", DefaultText: "3"},
			&ucli.StringFlag{Name: "other", Usage: "the other crop of each row: `FILE`"},
			&ucli.StringFlag{Name: "T", Usage: "temperature `T` of the loss with --other", DefaultText: "0.1"},
			outputFlag("write the assignments to `FILE`.npy, float64 [rows][prototypes], or .npz"),
		},
		Action: action([]string{"NAME"}, runBankAssign),
	}
}

// assigned is what assign prints.
type assigned struct {
	Rows        int         `json:"rows"`
	Prototypes  int         `json:"prototypes"`
	Queue       int         `json:"queue"`          // rows of it that took part
	Loss        *float64    `json:"loss,omitempty"` // with --other
	Assignments [][]float64 `json:"assignments,omitempty"`
	File        string      `json:"file,omitempty"`
}

func runBankAssign(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	older, err := one(c, "queue", memory.Olders)
	if err != nil {
		return err
	}
	var o memory.SinkhornOptions
	if o.Epsilon, err = positive(c, "epsilon"); err != nil {
		return err
	}
	n, err := counts(c, "iterations")
	if err != nil {
		return err
	}
	o.Iterations = int(n["iterations"])
	t, err := positive(c, "T")
	if err != nil {
		return err
	}
	if c.IsSet("T") && c.String("other") == "" {
		return usage("%s: -T is of the loss, which needs --other FILE", s.name)
	}
	m, err := s.matrices(ctx, c, "vectors", "prototypes?", "other?")
	if err != nil {
		return err
	}
	if other := m["other"]; other.Rows > 0 && other.Rows != m["vectors"].Rows {
		return badInput("%s: %s, and the batch has %d (one crop of each)", c.String("other"), plural(int64(other.Rows), "row"), m["vectors"].Rows)
	}
	return s.memoryBank(ctx, args[0], false, func(b *memory.Bank) error {
		config := b.Config()
		rows, prototypes := int64(m["vectors"].Rows), config.Prototypes
		if m["prototypes"].Rows > 0 {
			prototypes = int64(m["prototypes"].Rows)
		}
		if config.Kind == memory.KindQueue && older != memory.OlderNone {
			rows += config.Rows
		}
		if err := s.affords(12*rows*prototypes, "the assignment of "+plural(rows, "row")+" to "+plural(prototypes, "prototype")); err != nil {
			return err
		}
		a, err := b.Assign(ctx, m["vectors"], m["prototypes"], older, o)
		if err != nil {
			return err
		}
		r := assigned{Rows: a.Rows, Prototypes: a.Dim, Queue: a.Older, File: c.String("output")}
		if m["other"].Rows > 0 {
			l, err := otherLoss(b, a, m["other"], m["prototypes"], t)
			if err != nil {
				return err
			}
			r.Loss = &l.Loss
		}
		if r.File == "" {
			r.Assignments = linesOf(a.Assignment)
		} else if err := s.writeArrays(r.File, ".npy", namedArray{"assignments", a.Data, []int64{int64(a.Rows), int64(a.Dim)}}); err != nil {
			return err
		}
		return s.emit(r, func(w io.Writer) { printAssigned(w, r) })
	})
}

// otherLoss is the swapped loss of the other crop.
func otherLoss(b *memory.Bank, a memory.Assigned, other, prototypes simd.Matrix, t float64) (memory.Loss, error) {
	if prototypes.Rows == 0 {
		var err error
		if prototypes, err = b.Prototypes(); err != nil {
			return memory.Loss{}, err
		}
	}
	scores, err := memory.PrototypeScores(other, prototypes)
	if err != nil {
		return memory.Loss{}, err
	}
	return memory.SwappedLoss(a.Assignment, scores, t)
}

func printAssigned(w io.Writer, r assigned) {
	fmt.Fprintf(w, "%s to %s", plural(int64(r.Rows), "row"), plural(int64(r.Prototypes), "prototype"))
	if r.Queue > 0 {
		fmt.Fprintf(w, ", with %s of the queue", plural(int64(r.Queue), "row"))
	}
	fmt.Fprintln(w)
	if r.Loss != nil {
		fmt.Fprintf(w, "loss of the other crop: %s\n", strconv.FormatFloat(*r.Loss, 'f', 6, 64))
	}
	lines := make([][]string, len(r.Assignments))
	for i, line := range r.Assignments {
		best := largest(line)
		lines[i] = []string{strconv.Itoa(i), strconv.Itoa(best), percent(line[best]) + " %"}
	}
	if len(lines) > 0 {
		printTable(w, []column{number("row"), number("prototype"), number("share")}, lines)
	}
	if r.File != "" {
		fmt.Fprintln(w, r.File)
	}
}

// largest is the place of the largest number, the first of equals.
func largest(line []float64) (best int) {
	for i, x := range line {
		if x > line[best] {
			best = i
		}
	}
	return best
}

// linesOf are the rows of an assignment, in place.
func linesOf(a memory.Assignment) [][]float64 {
	lines := make([][]float64, a.Rows)
	for i := range lines {
		lines[i] = a.Row(i)
	}
	return lines
}
