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

func bankTransformCommand() *ucli.Command {
	return &ucli.Command{
		Name: "transform", Usage: "extrapolate positives, interpolate negatives (FT)", ArgsUsage: "NAME",
		Description: "q' = l*q + (1-l)*k and k' = l*k + (1-l)*q with l = 1 + Beta(a,a); the rows of the\n" +
			"bank become b*M + (1-b)*M[permutation]. For the logits only: push the keys as they\n" +
			"were. The draw is a function of the bank's seed and --step.\n\n" +
			"  membank bank transform moco/queue --vectors q.npy --other k.npy --step 100 -o ft.npz",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "vectors", Usage: "the queries: `FILE`"},
			&ucli.StringFlag{Name: "other", Usage: "the positive key of each: `FILE`"},
			&ucli.StringFlag{Name: "alpha-positive", Usage: "`A` of the positives' Beta", DefaultText: "2.0"},
			&ucli.StringFlag{Name: "alpha-negative", Usage: "`A` of the negatives' Beta", DefaultText: "1.6"},
			&ucli.BoolFlag{Name: "uniform", Usage: "draw both from 0 to 1 alike instead"},
			&ucli.StringFlag{Name: "elementwise", Usage: "a draw for each dimension of `WHICH`: " + names(memory.Elementwises), DefaultText: "none"},
			&ucli.BoolFlag{Name: "renormalise", Usage: "divide the positives by their norms again"},
			&ucli.StringFlag{Name: "step", Usage: "step `N` of the training run", DefaultText: "0"},
			scopeFlag(),
			outputFlag("write queries, keys, negatives, lambda, beta and permutation to `FILE`.npz"),
		},
		Action: action([]string{"NAME"}, runBankTransform),
	}
}

func runBankTransform(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	o := memory.TransformOptions{Uniform: c.Bool("uniform"), Renormalise: c.Bool("renormalise")}
	scope, err := scopeOf(c)
	if err != nil {
		return err
	}
	if o.AlphaPositive, err = positive(c, "alpha-positive"); err != nil {
		return err
	}
	if o.AlphaNegative, err = positive(c, "alpha-negative"); err != nil {
		return err
	}
	if o.Uniform && (c.IsSet("alpha-positive") || c.IsSet("alpha-negative")) {
		return usage("%s: --uniform leaves nothing to the alphas (give one)", s.name)
	}
	if o.Elementwise, err = one(c, "elementwise", memory.Elementwises); err != nil {
		return err
	}
	if o.Step, err = fromZero(c, "step"); err != nil {
		return err
	}
	path := c.String("output")
	if path == "" {
		return usage("%s: say where the features go with -o FILE.npz", s.name)
	}
	m, err := s.matrices(ctx, c, "vectors", "other")
	if err != nil {
		return err
	}
	return s.memoryBank(ctx, args[0], false, func(b *memory.Bank) error {
		config := b.Config()
		if err := s.affords(12*config.Rows*int64(config.Views[0].Dim), "mixing the rows of the bank"); err != nil {
			return err
		}
		x, err := b.Transform(ctx, m["vectors"], m["other"], scope, o)
		if err != nil {
			return err
		}
		permutation := make([]int64, len(x.Permutation))
		for i, p := range x.Permutation {
			permutation[i] = int64(p)
		}
		err = s.writeArrays(path, "", namedArray{"queries", x.Queries.Data, shapeOf(x.Queries)}, namedArray{"keys", x.Keys.Data, shapeOf(x.Keys)},
			namedArray{"negatives", x.Negatives.Data, []int64{int64(x.Negatives.Rows), int64(config.Views[0].Dim)}},
			namedArray{"lambda", x.Lambda, nil}, namedArray{"beta", x.Beta, nil}, namedArray{"permutation", permutation, nil})
		if err != nil {
			return err
		}
		r := writtenRows{int64(x.Queries.Rows), path}
		return s.emit(r, func(w io.Writer) {
			fmt.Fprintf(w, "%s: %s and %s\n", r.File, plural(r.Rows, "pair"), plural(int64(x.Negatives.Rows), "negative"))
		})
	})
}

func bankConsistencyCommand() *ucli.Command {
	return &ucli.Command{
		Name: "consistency", Usage: "how alike two views see the bank (CO2, ReSSL, ReLIC)", ArgsUsage: "NAME",
		Description: "co2: alpha/2*(KL(p|q)+KL(q|p)) of the softmax over the other view and the bank.\n" +
			"ressl: cross-entropy of the softmax of keys (--other, --key-T) and of queries over the\n" +
			"bank. relic: cross-entropy of both orders plus alpha*KL within the batch; of the bank\n" +
			"it takes only the dimension.\n\n" +
			"  membank bank consistency moco/queue --vectors q.npy --other k.npy --kind co2\n" +
			"  membank bank consistency ressl/queue --vectors q.npy --other k.npy --kind ressl -T 0.1 --key-T 0.04",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "vectors", Usage: "one view of the batch, ReSSL's queries: `FILE`"},
			&ucli.StringFlag{Name: "other", Usage: "the other view, ReSSL's keys: `FILE`"},
			&ucli.StringFlag{Name: "kind", Usage: "`KIND`: co2, ressl or relic", Value: "co2", DefaultText: "co2"},
			&ucli.StringFlag{Name: "T", Usage: "temperature `T`", DefaultText: "0.05 of co2, else 0.1"},
			&ucli.StringFlag{Name: "key-T", Usage: "of ressl, temperature `T` of the keys", DefaultText: "0.04"},
			&ucli.StringFlag{Name: "alpha", Usage: "weight `A` of the divergence, of co2 and relic", DefaultText: "1"},
			scopeFlag(),
		},
		Action: action([]string{"NAME"}, runBankConsistency),
	}
}

// consistent is what consistency prints.
type consistent struct {
	Kind string    `json:"kind"`
	Loss float64   `json:"loss"`
	Each []float64 `json:"each,omitempty"` // per row, of co2 and ressl

	Contrastive *float64 `json:"contrastive,omitempty"` // of relic: the loss is the sum of both
	Invariance  *float64 `json:"invariance,omitempty"`
}

func runBankConsistency(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	kind := c.String("kind")
	if !slices.Contains([]string{"co2", "ressl", "relic"}, kind) {
		return usage("--kind %s: unknown (co2, ressl or relic)", kind)
	}
	if kind != "ressl" && c.IsSet("key-T") || kind == "ressl" && c.IsSet("alpha") || kind == "relic" && c.IsSet("scope") {
		return usage("%s: --key-T is of ressl, --alpha of co2 and relic, --scope of co2 and ressl", s.name)
	}
	scope, err := scopeOf(c)
	if err != nil {
		return err
	}
	number := map[string]float64{}
	for _, flag := range []string{"T", "key-T", "alpha"} {
		if number[flag], err = positive(c, flag); err != nil {
			return err
		}
	}
	m, err := s.matrices(ctx, c, "vectors", "other")
	if err != nil {
		return err
	}
	x, y := m["vectors"], m["other"]
	return s.memoryBank(ctx, args[0], false, func(b *memory.Bank) error {
		candidates := b.Config().Rows
		if kind == "relic" {
			candidates = int64(x.Rows)
		}
		if err := s.affords(16*int64(x.Rows)*candidates, "the scores of the batch"); err != nil {
			return err
		}
		r := consistent{Kind: kind}
		var l memory.Loss
		switch kind {
		case "co2":
			l, err = b.CO2(ctx, x, y, scope, number["T"], number["alpha"])
		case "ressl":
			l, err = b.ReSSL(ctx, y, x, scope, number["key-T"], number["T"])
		default:
			var contrastive, invariance float64
			contrastive, invariance, err = b.ReLIC(x, y, number["T"], number["alpha"])
			l.Loss, r.Contrastive, r.Invariance = contrastive+invariance, &contrastive, &invariance
		}
		if err != nil {
			return err
		}
		r.Loss, r.Each = l.Loss, l.Each
		return s.emit(r, func(w io.Writer) {
			fields := [][2]string{{"loss", strconv.FormatFloat(r.Loss, 'f', 6, 64)}}
			if r.Contrastive != nil {
				fields = append(fields, [2]string{"contrastive", strconv.FormatFloat(*r.Contrastive, 'f', 6, 64)}, [2]string{"invariance", strconv.FormatFloat(*r.Invariance, 'f', 6, 64)})
			}
			printFields(w, fields)
		})
	})
}
