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

func bankODCStartCommand() *ucli.Command {
	return &ucli.Command{
		Name: "odc-start", Usage: "label slots by a first clustering (ODC)", ArgsUsage: "NAME",
		Description: "Prototypes become the means of their rows, not divided by their norms. No cluster\n" +
			"may be empty.\n\n" +
			"  membank bank init odc --from train --prototypes 10000\n" +
			"  membank cluster train -c 10000 -o clusters.npz\n" +
			"  membank bank odc-start odc --labels labels.npy",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "labels", Usage: "the cluster of each slot: `FILE` of integers"},
			durabilityFlag(),
		},
		Action: action([]string{"NAME"}, runBankODCStart),
	}
}

func durabilityFlag() ucli.Flag { return writingFlags()[3] }

// odcStarted is what odc-start prints.
type odcStarted struct {
	Name       string `json:"name"`
	Rows       int    `json:"rows"`
	Prototypes int64  `json:"prototypes"`
}

func runBankODCStart(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	d, err := durability(s, c)
	if err != nil {
		return err
	}
	if c.String("labels") == "" {
		return usage("%s: give the cluster of each slot with --labels FILE (membank cluster makes one)", s.name)
	}
	labels, err := s.readLabels(c.String("labels"), -1)
	if err != nil {
		return err
	}
	return s.memoryBank(ctx, args[0], true, func(b *memory.Bank) error {
		slots, err := b.Slots()
		if err != nil {
			return err
		}
		if err := slots.ODCStart(ctx, labels, d); err != nil {
			return err
		}
		r := odcStarted{args[0], len(labels), b.Config().Prototypes}
		return s.emit(r, func(w io.Writer) {
			fmt.Fprintf(w, "%s: %s in %s\n", r.Name, plural(int64(r.Rows), "row"), plural(r.Prototypes, "cluster"))
		})
	})
}

func bankODCCommand() *ucli.Command {
	return &ucli.Command{
		Name: "odc", Usage: "one step of online deep clustering (ODC)", ArgsUsage: "NAME",
		Description: "Mixes rows into slots, gives them the labels of the nearest prototypes, computes\n" +
			"all prototypes anew every --centroids-every updates, and dissolves clusters of\n" +
			"fewer than --min-cluster rows. One change of the bank: readers see all or nothing.\n\n" +
			"  membank bank odc odc --ids ids.npy --vectors batch.npy --step 100 --json\n" +
			"  membank bank odc odc --ids ids.npy --vectors batch.npy --keep-old 0.5 --min-cluster 20 --loss-weights",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "ids", Usage: "the slots: 0,5,9, or a `FILE` of integers"},
			&ucli.StringFlag{Name: "vectors", Usage: "the batch: `FILE`"},
			&ucli.StringFlag{Name: "keep-old", Usage: "weight `M` of the old row, 0 to 1", DefaultText: "0.5"},
			&ucli.StringFlag{Name: "min-cluster", Usage: "clusters of fewer than `N` rows are dissolved", DefaultText: "20"},
			&ucli.StringFlag{Name: "centroids-every", Usage: "`N` updates", DefaultText: "10"},
			&ucli.StringFlag{Name: "step", Usage: "step `N` of the training run", DefaultText: "one more than the newest"},
			&ucli.BoolFlag{Name: "loss-weights", Usage: "print the weights of clusters in the loss, too, (n+1e-10)^-0.5 by their sum"},
			durabilityFlag(),
		},
		Action: action([]string{"NAME"}, runBankODC),
	}
}

// odcStepped is what odc prints.
type odcStepped struct {
	memory.ODCStep
	Weights []float64 `json:"weights,omitempty"`
}

func runBankODC(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	var o memory.ODCOptions
	var err error
	if o.KeepOld, err = share(c, "keep-old", 0.5); err != nil {
		return err
	}
	o.Overwrite = o.KeepOld == 0
	n, err := counts(c, "min-cluster", "centroids-every", "step")
	if err != nil {
		return err
	}
	o.MinCluster, o.CentroidsEach, o.Step = n["min-cluster"], n["centroids-every"], n["step"]
	if o.Durability, err = durability(s, c); err != nil {
		return err
	}
	if c.String("ids") == "" {
		return usage("%s: give --ids and --vectors", s.name)
	}
	ids, err := s.readIDs(c.String("ids"))
	if err != nil {
		return err
	}
	m, err := s.matrices(ctx, c, "vectors")
	if err != nil {
		return err
	}
	return s.memoryBank(ctx, args[0], true, func(b *memory.Bank) error {
		slots, err := b.Slots()
		if err != nil {
			return err
		}
		var r odcStepped
		if r.ODCStep, err = slots.ODCUpdate(ctx, ids, m["vectors"], o); err != nil {
			return err
		}
		if c.Bool("loss-weights") {
			if r.Weights, err = slots.ODCWeights(); err != nil {
				return err
			}
		}
		return s.emit(r, func(w io.Writer) {
			fmt.Fprintf(w, "%s: %s at step %d, %s %% relabelled\n", args[0], plural(int64(len(ids)), "slot"), r.Step, percent(r.ChangeRatio))
			fmt.Fprintf(w, "clusters: %d dissolved, %s moved, %d empty, %s to %s\n", r.Dissolved, plural(r.Moved, "row"), r.Empty, count(r.Smallest), plural(r.Largest, "row"))
			for i, weight := range r.Weights {
				fmt.Fprintf(w, "weight of %d: %s\n", i, strconv.FormatFloat(weight, 'g', 6, 64))
			}
		})
	})
}

func bankConcentrationsCommand() *ucli.Command {
	return &ucli.Command{
		Name: "concentrations", Usage: "temperatures of clusters (PCL)", ArgsUsage: "NAME",
		Description: "phi = mean distance from the centroid / log(n+10), clipped to the 10th and 90th\n" +
			"percentile and scaled to a mean of T; membank bank loss --kind prototype takes it.\n\n" +
			"  membank bank concentrations pcl --labels labels.npy --prototypes c.npy -o phi.npy\n" +
			"  membank bank concentrations odc",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "labels", Usage: "the cluster of each row: `FILE` of integers, -1 for none", DefaultText: "the bank's labels"},
			&ucli.StringFlag{Name: "prototypes", Usage: "the centroids: `FILE`", DefaultText: "those kept with slots"},
			&ucli.StringFlag{Name: "T", Usage: "mean temperature `T`", DefaultText: "0.2"},
			outputFlag("write them to `FILE`.npy, float64"),
		},
		Action: action([]string{"NAME"}, runBankConcentrations),
	}
}

// concentrated is what concentrations prints.
type concentrated struct {
	Clusters       int       `json:"clusters"`
	Concentrations []float64 `json:"concentrations,omitempty"`
	File           string    `json:"file,omitempty"`
}

func runBankConcentrations(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	t, err := positive(c, "T")
	if err != nil {
		return err
	}
	var labels []int64
	if path := c.String("labels"); path != "" {
		if labels, err = s.readLabels(path, -1); err != nil {
			return err
		}
	}
	m, err := s.matrices(ctx, c, "prototypes?")
	if err != nil {
		return err
	}
	return s.memoryBank(ctx, args[0], false, func(b *memory.Bank) error {
		phi, err := b.Concentrations(ctx, labels, m["prototypes"], t)
		if err != nil {
			return err
		}
		r := concentrated{Clusters: len(phi), File: c.String("output")}
		if r.File == "" {
			r.Concentrations = phi
		} else if err := s.writeArrays(r.File, ".npy", namedArray{"concentrations", phi, nil}); err != nil {
			return err
		}
		return s.emit(r, func(w io.Writer) {
			for i, x := range r.Concentrations {
				fmt.Fprintf(w, "%d  %s\n", i, strconv.FormatFloat(x, 'f', 6, 64))
			}
			if r.File != "" {
				fmt.Fprintf(w, "%s: %s\n", r.File, plural(int64(r.Clusters), "cluster"))
			}
		})
	})
}

// prototypeLoss is membank bank loss --kind prototype.
func (s *session) prototypeLoss(ctx context.Context, c *ucli.Context, bank string) error {
	if c.IsSet("T") || c.IsSet("z") || c.IsSet("decay") {
		return usage("%s: the temperatures of --kind prototype are --concentrations, and it has no Z", s.name)
	}
	n, err := counts(c, "n")
	if err != nil {
		return err
	}
	step, err := fromZero(c, "step")
	if err != nil {
		return err
	}
	if n["n"] == 0 || c.String("concentrations") == "" {
		return usage("%s: --kind prototype takes -n negative prototypes and --concentrations FILE", s.name)
	}
	own, err := s.readIDs(c.String("positives"))
	if err != nil {
		return err
	}
	phi, err := s.readFloats(c.String("concentrations"))
	if err != nil {
		return err
	}
	m, err := s.matrices(ctx, c, "vectors", "prototypes?")
	if err != nil {
		return err
	}
	if err := s.affords(24*int64(m["vectors"].Rows)*(1+n["n"]), "the scores of the batch"); err != nil {
		return err
	}
	return s.memoryBank(ctx, bank, false, func(b *memory.Bank) error {
		l, err := b.PrototypeLoss(ctx, m["vectors"], own, int(n["n"]), m["prototypes"], phi, step)
		if err != nil {
			return err
		}
		return s.printLoss(l)
	})
}

// probabilitiesOf are the rows of a matrix as class probabilities.
func probabilitiesOf(m simd.Matrix) memory.Probabilities {
	p := memory.Probabilities{Data: make([]float64, m.Rows*m.Dim), Rows: m.Rows, Dim: m.Dim}
	for i, x := range m.Data[:m.Rows*m.Dim] {
		p.Data[i] = float64(x)
	}
	return p
}
