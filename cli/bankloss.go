package cli

import (
	"context"
	"io"
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
			"first call and fixed (--z first), or averaged (--z ema).\n\n" +
			"  membank bank loss npid --vectors batch.npy --positives ids.npy -n 4096 --step 100\n" +
			"  membank bank loss npid --vectors batch.npy --positives ids.npy --kind softmax -T 0.07",
		Flags: append(samplingFlags(),
			&ucli.StringFlag{Name: "vectors", Usage: "the batch: `FILE`"},
			&ucli.StringFlag{Name: "kind", Usage: "`KIND`: nce, infonce or softmax", Value: "nce", DefaultText: "nce"},
			&ucli.StringFlag{Name: "T", Usage: "temperature `T`", Value: "0.07", DefaultText: "0.07"},
			&ucli.StringFlag{Name: "z", Usage: "of nce, `RULE`: first or ema", DefaultText: "first"},
		),
		Action: action([]string{"NAME"}, runBankLoss),
	}
}

func runBankLoss(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	kind := c.String("kind")
	if !slices.Contains([]string{"nce", "infonce", "softmax"}, kind) {
		return usage("--kind %s: unknown (nce, infonce or softmax)", kind)
	}
	rule, err := one(c, "z", []memory.ZRule{memory.ZFirst, memory.ZEMA})
	if err != nil {
		return err
	}
	t, err := strconv.ParseFloat(c.String("T"), 64)
	if err != nil || !(t > 0) {
		return usage("-T %s: not a temperature (above 0)", c.String("T"))
	}
	if c.String("vectors") == "" || c.String("positives") == "" {
		return usage("%s: give the batch with --vectors and the ids of its samples with --positives", s.name)
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
			l, err = b.FullSoftmax(ctx, 0, queries, o.Positives, t, o.Scope)
		} else {
			l, err = sampledLoss(ctx, b, queries, o, kind, memory.NCEOptions{T: t, Rule: rule, Durability: memory.Sync})
		}
		if err != nil {
			return err
		}
		return s.emit(l, func(w io.Writer) {
			fields := [][2]string{{"loss", strconv.FormatFloat(l.Loss, 'f', 6, 64)}, {"accuracy", percent(l.Right) + " %"}}
			if l.Z > 0 {
				fields = append(fields, [2]string{"Z", strconv.FormatFloat(l.Z, 'g', 8, 64)})
			}
			printFields(w, fields)
		})
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
