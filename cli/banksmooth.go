package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"membank/index/memory"

	ucli "github.com/urfave/cli/v2"
)

func bankSmoothCommand() *ucli.Command {
	return &ucli.Command{
		Name: "smooth", Usage: "smooth class probabilities by similar rows (CoMatch, SimMatch)", ArgsUsage: "NAME",
		Description: "comatch: alpha*p + (1-alpha)*sum of a_j*bank_j with a = softmax(scores/T), over a\n" +
			"bank of two views, embeddings and the probabilities stored with them. simmatch:\n" +
			"alpha*p_c + (1-alpha)*(sum of a_j with label c), over the labels of the bank; the\n" +
			"file has instance, [rows][ids], too. What reaches the threshold is accepted.\n\n" +
			"  membank bank init comatch --kind queue --rows 30000 --dim 64,1000\n" +
			"  membank bank smooth comatch --vectors z.npy --probabilities p.npy --threshold 0.6 -o p.npz\n" +
			"  membank bank smooth labelled --method simmatch --vectors z.npy --probabilities p.npy --json",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "vectors", Usage: "the batch: `FILE`"},
			&ucli.StringFlag{Name: "probabilities", Usage: "its class probabilities: `FILE`, [rows][classes]"},
			&ucli.StringFlag{Name: "method", Usage: "`METHOD`: comatch or simmatch", Value: "comatch", DefaultText: "comatch"},
			&ucli.StringFlag{Name: "T", Usage: "temperature `T` (0.2 on CIFAR)", DefaultText: "0.1"},
			&ucli.StringFlag{Name: "alpha", Usage: "weight `A` of the batch's own probabilities, above 0 to 1", DefaultText: "0.9"},
			&ucli.StringFlag{Name: "threshold", Usage: "accept what is at least `P` (0.6 on ImageNet)", DefaultText: "0.95"},
			scopeFlag(),
			outputFlag("write probabilities, classes and accepted to `FILE`.npz"),
		},
		Action: action([]string{"NAME"}, runBankSmooth),
	}
}

// smoothed is what smooth prints.
type smoothed struct {
	Method        string      `json:"method"`
	Rows          int         `json:"rows"`
	Coverage      float64     `json:"coverage"` // share that is accepted
	Probabilities [][]float64 `json:"probabilities,omitempty"`
	Classes       []int64     `json:"classes,omitempty"`
	Accepted      []bool      `json:"accepted,omitempty"`
	File          string      `json:"file,omitempty"`
}

func runBankSmooth(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	method := c.String("method")
	if !slices.Contains([]string{"comatch", "simmatch"}, method) {
		return usage("--method %s: unknown (comatch or simmatch)", method)
	}
	scope, err := scopeOf(c)
	if err != nil {
		return err
	}
	number := map[string]float64{}
	for _, flag := range []string{"T", "alpha", "threshold"} {
		if number[flag], err = positive(c, flag); err != nil {
			return err
		}
	}
	if number["threshold"] == 0 {
		number["threshold"] = 0.95
	}
	m, err := s.matrices(ctx, c, "vectors", "probabilities")
	if err != nil {
		return err
	}
	p := probabilitiesOf(m["probabilities"])
	if rows := m["vectors"].Rows; p.Rows != rows {
		return badInput("%s: %s of probabilities for %d of vectors", c.String("probabilities"), plural(int64(p.Rows), "row"), rows)
	}
	return s.memoryBank(ctx, args[0], false, func(b *memory.Bank) error {
		each := int64(4) // bytes of a row's score, and of its instance probability
		if method == "simmatch" {
			each = 12
		}
		if err := s.affords(each*int64(p.Rows)*b.Config().Rows, "the scores of the batch"); err != nil {
			return err
		}
		var ids []int64
		var instance, class memory.Probabilities
		if method == "comatch" {
			class, err = b.CoMatch(ctx, m["vectors"], p, scope, number["T"], number["alpha"])
		} else {
			ids, instance, class, err = b.SimMatch(ctx, m["vectors"], p, scope, number["T"], number["alpha"])
		}
		if err != nil {
			return err
		}
		r := smoothed{Method: method, Rows: class.Rows, File: c.String("output")}
		classes, accepted := memory.Accepted(class, number["threshold"])
		for _, is := range accepted {
			if is {
				r.Coverage += 1 / float64(len(accepted))
			}
		}
		if r.File == "" {
			r.Probabilities, r.Classes, r.Accepted = linesOf(class), classes, accepted
		} else {
			arrays := []namedArray{{"probabilities", class.Data, []int64{int64(class.Rows), int64(class.Dim)}}, {"classes", classes, nil}, {"accepted", accepted, nil}}
			if ids != nil {
				arrays = append(arrays, namedArray{"ids", ids, nil}, namedArray{"instance", instance.Data, []int64{int64(instance.Rows), int64(instance.Dim)}})
			}
			if err := s.writeArrays(r.File, "", arrays...); err != nil {
				return err
			}
		}
		return s.emit(r, func(w io.Writer) { printSmoothed(w, r) })
	})
}

func printSmoothed(w io.Writer, r smoothed) {
	fmt.Fprintf(w, "%s: %s, %s %% accepted\n", r.Method, plural(int64(r.Rows), "row"), percent(r.Coverage))
	lines := make([][]string, len(r.Probabilities))
	for i, line := range r.Probabilities {
		mark := ""
		if r.Accepted[i] {
			mark = "yes"
		}
		lines[i] = []string{strconv.Itoa(i), strconv.FormatInt(r.Classes[i], 10), percent(line[r.Classes[i]]) + " %", mark}
	}
	if len(lines) > 0 {
		printTable(w, []column{number("row"), number("class"), number("probability"), left("accepted")}, lines)
	}
	if r.File != "" {
		fmt.Fprintln(w, r.File)
	}
}
