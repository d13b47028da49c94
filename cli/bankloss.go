package cli

import (
	"context"
	"io"
	"math"
	"slices"
	"strconv"

	"membank/index/memory"
	"membank/simd"

	ucli "github.com/urfave/cli/v2"
)

func bankLossCommand() *ucli.Command {
	return &ucli.Command{
		Name: "loss", Usage: "what a batch costs against a memory bank", ArgsUsage: "NAME",
		Description: "nce and infonce draw -n negatives for each row of the batch as sample does;\n" +
			"softmax compares it with every slot. nce keeps the bank's Z: estimated at the\n" +
			"first call and fixed (--z first), or averaged (--z ema), or it is a number of yours.\n" +
			"prototype (PCL) compares it with its own prototypes, --positives, and -n others.\n\n" +
			"  membank bank loss npid --vectors batch.npy --positives ids.npy -n 4096 --step 100\n" +
			"  membank bank loss npid --vectors batch.npy --positives ids.npy --kind softmax -T 0.07\n" +
			"  membank bank loss pcl --vectors batch.npy --positives own.npy --kind prototype --prototypes c.npy --concentrations phi.npy -n 16384",
		Flags: append(samplingFlags(),
			&ucli.StringFlag{Name: "vectors", Usage: "the batch: `FILE`"},
			&ucli.StringFlag{Name: "kind", Usage: "`KIND`: nce, infonce, softmax or prototype", Value: "nce", DefaultText: "nce"},
			&ucli.StringFlag{Name: "T", Usage: "temperature `T`", Value: "0.07", DefaultText: "0.07"},
			&ucli.StringFlag{Name: "z", Usage: "of nce, `RULE`: first, ema, or a number that Z is", DefaultText: "first"},
			&ucli.StringFlag{Name: "decay", Usage: "of --z ema, weight `D` of the old Z, 0 to 1", DefaultText: "0.99"},
			&ucli.StringFlag{Name: "prototypes", Usage: "of prototype, the prototypes: `FILE`", DefaultText: "those kept with slots"},
			&ucli.StringFlag{Name: "concentrations", Usage: "of prototype, the temperature of each: `FILE` of floats"},
		),
		Action: action([]string{"NAME"}, runBankLoss),
	}
}

func runBankLoss(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	kind := c.String("kind")
	if !slices.Contains([]string{"nce", "infonce", "softmax", "prototype"}, kind) {
		return usage("--kind %s: unknown (nce, infonce, softmax or prototype)", kind)
	}
	if kind != "prototype" && (c.IsSet("prototypes") || c.IsSet("concentrations")) || kind != "nce" && (c.IsSet("z") || c.IsSet("decay")) {
		return usage("%s: --z and --decay are of --kind nce, --prototypes and --concentrations of --kind prototype", s.name)
	}
	nce, err := nceOptions(c)
	if err != nil {
		return err
	}
	if c.String("vectors") == "" || c.String("positives") == "" {
		return usage("%s: give the batch with --vectors and the ids of its samples with --positives", s.name)
	}
	if kind == "prototype" {
		return s.prototypeLoss(ctx, c, args[0])
	}
	var o memory.SampleOptions
	if kind != "softmax" {
		if o, err = samplingOptions(s, c); err != nil {
			return err
		}
		o.PositiveFirst = true
	} else {
		if o.Positives, err = s.readIDs(c.String("positives")); err != nil {
			return err
		}
		if o.Scope, err = scopeOf(c); err != nil {
			return err
		}
	}
	queries, err := s.readMatrix(ctx, c.String("vectors"))
	if err != nil {
		return err
	}
	return s.memoryBank(ctx, args[0], kind == "nce", func(b *memory.Bank) error {
		var l memory.Loss
		if kind == "softmax" {
			l, err = b.FullSoftmax(ctx, 0, queries, o.Positives, nce.T, o.Scope)
		} else {
			l, err = sampledLoss(ctx, b, queries, o, kind, nce)
		}
		if err != nil {
			return err
		}
		return s.printLoss(l)
	})
}

// nceOptions reads the temperature of a loss and the rule of its Z.
func nceOptions(c *ucli.Context) (o memory.NCEOptions, err error) {
	o.Durability = memory.Sync
	if o.T, err = strconv.ParseFloat(c.String("T"), 64); err != nil || !(o.T > 0) {
		return o, usage("-T %s: not a temperature (above 0)", c.String("T"))
	}
	if z, err := strconv.ParseFloat(c.String("z"), 64); err == nil && z > 0 && !math.IsInf(z, 0) {
		o.Rule, o.Z = memory.ZFixed, z
	} else if o.Rule, err = one(c, "z", []memory.ZRule{memory.ZFirst, memory.ZEMA}); err != nil {
		return o, err
	}
	if c.IsSet("decay") && o.Rule != memory.ZEMA {
		return o, usage("--decay is of --z ema")
	}
	o.Decay, err = positive(c, "decay")
	return o, err
}

func (s *session) printLoss(l memory.Loss) error {
	return s.emit(l, func(w io.Writer) {
		fields := [][2]string{{"loss", strconv.FormatFloat(l.Loss, 'f', 6, 64)}, {"accuracy", percent(l.Right) + " %"}}
		if l.Z > 0 {
			fields = append(fields, [2]string{"Z", strconv.FormatFloat(l.Z, 'g', 8, 64)})
		}
		printFields(w, fields)
	})
}

func sampledLoss(ctx context.Context, b *memory.Bank, queries simd.Matrix, o memory.SampleOptions, kind string, nce memory.NCEOptions) (memory.Loss, error) {
	ids, err := b.Sample(ctx, o)
	if err != nil {
		return memory.Loss{}, err
	}
	scores, err := b.Scores(ctx, 0, queries, ids)
	if err != nil {
		return memory.Loss{}, err
	}
	if kind == "infonce" {
		return memory.InfoNCE(scores, nce.T)
	}
	return b.NCE(ctx, scores, nce)
}
