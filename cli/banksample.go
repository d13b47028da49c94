package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"membank/index/memory"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

func bankSampleCommand() *ucli.Command {
	return &ucli.Command{
		Name: "sample", Usage: "draw negatives", ArgsUsage: "NAME",
		Description: "The draw is a function of the bank's seed, --step, --rank and these flags.\n\n" +
			"  membank bank sample npid -n 4096 --positives batch.npy --positive-first --step 100 -o ids.npy\n" +
			"  membank bank sample npid -n 64 --positives 3,7 --exclude-positive",
		Flags: append(samplingFlags(), outputFlag("write the ids to `FILE.npy`, int64 [anchors][n]")),
		Action: action([]string{"NAME"}, func(ctx context.Context, s *session, c *ucli.Context, args []string) error {
			o, err := samplingOptions(s, c)
			if err != nil {
				return err
			}
			return s.memoryBank(ctx, args[0], false, func(b *memory.Bank) error {
				lines, err := b.Sample(ctx, o)
				if err != nil {
					return err
				}
				return s.printSample(c.String("output"), lines)
			})
		}),
	}
}

func samplingFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.StringFlag{Name: "n", Usage: "`N` negatives an anchor"},
		&ucli.StringFlag{Name: "positives", Usage: "each anchor's own id: 0,5,9, or a `FILE` of integers"},
		&ucli.StringFlag{Name: "anchors", Usage: "`N` anchors, where they have no positives", DefaultText: "1"},
		&ucli.BoolFlag{Name: "positive-first", Usage: "put the positive before its negatives"},
		&ucli.BoolFlag{Name: "exclude-positive", Usage: "draw again what is the positive"},
		&ucli.StringFlag{Name: "exclude", Usage: "ids that nobody gets: 0,5,9, or a `FILE` of integers"},
		&ucli.StringFlag{Name: "weights", Usage: "odds of each id: `FILE` of floats; uniform without"},
		&ucli.BoolFlag{Name: "distinct", Usage: "no id twice for an anchor"},
		&ucli.StringFlag{Name: "step", Usage: "step `N` of the training run", DefaultText: "0"},
		&ucli.StringFlag{Name: "rank", Usage: "rank `N` of the process", DefaultText: "0"},
		scopeFlag(),
	}
}

func samplingOptions(s *session, c *ucli.Context) (o memory.SampleOptions, err error) {
	o = memory.SampleOptions{PositiveFirst: c.Bool("positive-first"), ExcludePositive: c.Bool("exclude-positive"), Distinct: c.Bool("distinct")}
	if o.Scope, err = scopeOf(c); err != nil {
		return o, err
	}
	n, err := counts(c, "n", "anchors")
	if err != nil {
		return o, err
	}
	if n["n"] == 0 {
		return o, usage("%s: say how many with -n", s.name)
	}
	o.N, o.Anchors = int(n["n"]), int(n["anchors"])
	for flag, to := range map[string]*int64{"step": &o.Step, "rank": &o.Rank} {
		if text := c.String(flag); text != "" {
			if *to, err = strconv.ParseInt(text, 10, 64); err != nil || *to < 0 {
				return o, usage("%s %s: not a number (write 0 or more)", dashed(flag), text)
			}
		}
	}
	for flag, to := range map[string]*[]int64{"positives": &o.Positives, "exclude": &o.Exclude} {
		if text := c.String(flag); text != "" {
			if *to, err = s.readIDs(text); err != nil {
				return o, err
			}
		}
	}
	if o.Positives == nil && (o.PositiveFirst || o.ExcludePositive) {
		return o, usage("%s: --positive-first and --exclude-positive need --positives", s.name)
	}
	if err := s.fitsSample(o); err != nil {
		return o, err
	}
	if path := c.String("weights"); path != "" {
		weights, err := s.readFloats(path)
		if err != nil {
			return o, err
		}
		if o.Weights, err = memory.NewAlias(weights); err != nil {
			return o, fmt.Errorf("%s: %w", path, err)
		}
	}
	return o, nil
}

// drawnIDs is what sample prints.
type drawnIDs struct {
	IDs [][]int64 `json:"ids"` // a line an anchor
}

func (s *session) printSample(path string, lines [][]int64) error {
	if path == "" {
		return s.emit(drawnIDs{lines}, func(w io.Writer) {
			for _, line := range lines {
				fmt.Fprintln(w, strings.Trim(fmt.Sprint(line), "[]"))
			}
		})
	}
	if strings.ToLower(filepath.Ext(path)) != ".npy" {
		return usage("-o %s: unknown kind of file (.npy)", path)
	}
	width := 0
	if len(lines) > 0 {
		width = len(lines[0])
	}
	err := s.writeFile(path, func(w io.Writer) error {
		return dump.WriteNPY(w, slices.Concat(lines...), int64(len(lines)), int64(width))
	})
	if err != nil {
		return err
	}
	r := writtenRows{int64(len(lines)), path}
	return s.emit(r, func(w io.Writer) { fmt.Fprintf(w, "%s: %s of %d ids\n", r.File, plural(r.Rows, "line"), width) })
}
