package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"membank/index/memory"

	ucli "github.com/urfave/cli/v2"
)

func bankReclusterCommand() *ucli.Command {
	return &ucli.Command{
		Name: "recluster", Usage: "cluster the rows of a finished epoch (DeepCluster-v2)", ArgsUsage: "NAME",
		Description: "Spherical k-means over the rows that were written, head h over view h modulo their\n" +
			"number: random rows first, a cluster without rows keeps its centroid. The file has\n" +
			"labels, int64 [heads][samples], and centroids_0, centroids_1, … of length 1, to be\n" +
			"copied into the prototypes' weights.\n\n" +
			"  membank bank recluster dc --heads 3000,3000,3000 --epoch 7 -o epoch7.npz\n" +
			"  membank bank recluster dc --heads 3000 --samples order.npy --total 1281167 -o epoch7.npz",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "heads", Usage: "prototypes of each head: `K,K,…`"},
			&ucli.StringFlag{Name: "iterations", Usage: "`N` iterations", DefaultText: "10"},
			&ucli.StringFlag{Name: "epoch", Usage: "`N`: other epochs start from other rows", DefaultText: "0"},
			&ucli.StringFlag{Name: "samples", Usage: "the sample of each slot, where slots were written in the order of an epoch: `FILE` of integers", DefaultText: "its own number"},
			&ucli.StringFlag{Name: "total", Usage: "`N` samples in all", DefaultText: "one more than the largest"},
			&ucli.StringFlag{Name: "absent", Usage: "label `L` of samples without a slot, below 0", DefaultText: "-100, which cross-entropy ignores"},
			outputFlag("write labels and centroids to `FILE`.npz"),
		},
		Action: action([]string{"NAME"}, runBankRecluster),
	}
}

// reclustered is what recluster prints.
type reclustered struct {
	Samples int          `json:"samples"`
	Heads   []headReport `json:"heads"`
	File    string       `json:"file,omitempty"`
}

type headReport struct {
	View       int     `json:"view"`
	Prototypes int     `json:"prototypes"`
	Objective  float64 `json:"objective"`
	Empty      int     `json:"empty"`
	Smallest   int64   `json:"smallest"`
	Median     float64 `json:"median"`
	Largest    int64   `json:"largest"`
	Imbalance  float64 `json:"imbalance"`
}

func runBankRecluster(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	o, err := s.reclusterOptions(c)
	if err != nil {
		return err
	}
	return s.memoryBank(ctx, args[0], false, func(b *memory.Bank) error {
		slots, err := b.Slots()
		if err != nil {
			return err
		}
		samples := max(o.Total, b.Config().Rows)
		if err := s.affords(8*samples*int64(len(o.Heads)), "labels of "+plural(samples, "sample")); err != nil {
			return err
		}
		heads, err := slots.Recluster(ctx, o)
		if err != nil {
			return err
		}
		r := reclustered{Samples: len(heads[0].Labels), File: c.String("output")}
		arrays := []namedArray{{"labels", []int64{}, []int64{int64(len(heads)), int64(r.Samples)}}}
		labels := make([]int64, 0, len(heads)*r.Samples)
		for i, h := range heads {
			r.Heads = append(r.Heads, headReport{h.View, h.Centroids.Rows, h.Objective, h.Empty, h.Min, h.Median, h.Max, h.Imbalance})
			labels = append(labels, h.Labels...)
			arrays = append(arrays, namedArray{fmt.Sprintf("centroids_%d", i), h.Centroids.Data, shapeOf(h.Centroids)})
		}
		arrays[0].data = labels
		if r.File != "" {
			if err := s.writeArrays(r.File, "", arrays...); err != nil {
				return err
			}
		}
		return s.emit(r, func(w io.Writer) { printReclustered(w, r) })
	})
}

func (s *session) reclusterOptions(c *ucli.Context) (o memory.ReclusterOptions, err error) {
	if c.String("heads") == "" {
		return o, usage("%s: give the prototypes of each head, --heads 3000,3000,3000", s.name)
	}
	for field := range strings.SplitSeq(c.String("heads"), ",") {
		k, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || k < 1 || k > 1<<24 || len(o.Heads) == 64 {
			return o, usage("--heads %s: %q is not a number of prototypes (write 3000,3000,3000)", c.String("heads"), field)
		}
		o.Heads = append(o.Heads, k)
	}
	n, err := counts(c, "iterations", "total")
	if err != nil {
		return o, err
	}
	o.Iterations, o.Total, o.Threads = int(n["iterations"]), n["total"], s.threads
	if o.Epoch, err = fromZero(c, "epoch"); err != nil {
		return o, err
	}
	if text := c.String("absent"); text != "" {
		if o.Absent, err = strconv.ParseInt(text, 10, 64); err != nil || o.Absent >= 0 {
			return o, usage("--absent %s: not a label below 0", text)
		}
	}
	if text := c.String("samples"); text != "" {
		o.Samples, err = s.readIDs(text)
	}
	return o, err
}

// fromZero is a number from 0; 0 if the flag is not given.
func fromZero(c *ucli.Context, flag string) (int64, error) {
	text := c.String(flag)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, usage("%s %s: not a number (write 0 or more)", dashed(flag), text)
	}
	return n, nil
}

func printReclustered(w io.Writer, r reclustered) {
	lines := make([][]string, len(r.Heads))
	for i, h := range r.Heads {
		lines[i] = []string{strconv.Itoa(i), strconv.Itoa(h.View), count(int64(h.Prototypes)), strconv.FormatFloat(h.Objective, 'g', 6, 64),
			count(int64(h.Empty)), count(h.Smallest), count(h.Largest), strconv.FormatFloat(h.Imbalance, 'f', 3, 64)}
	}
	printTable(w, []column{number("head"), number("view"), number("prototypes"), number("objective"), number("empty"), number("smallest"), number("largest"), number("imbalance")}, lines)
	if r.File != "" {
		fmt.Fprintf(w, "%s: labels of %s\n", r.File, plural(int64(r.Samples), "sample"))
	}
}
