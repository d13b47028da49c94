package cli

import (
	"context"
	"fmt"
	"strconv"

	"membank/index"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// probeOptions reads --exact, --nprobe and --recall, which exclude each other.
func probeOptions(c *ucli.Context, o *index.Options) error {
	given := 0
	for _, name := range []string{"exact", "nprobe", "recall"} {
		if c.IsSet(name) {
			given++
		}
	}
	if given > 1 {
		return usage("%s: --exact, --nprobe and --recall exclude each other (give one)", commandName(c))
	}
	if text := c.String("nprobe"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return usage("--nprobe %s: not a number of lists (write 1 or more)", text)
		}
		o.Probes = n
	}
	if text := c.String("recall"); text != "" {
		r, err := strconv.ParseFloat(text, 64)
		if err != nil || !(r > 0 && r <= 1) {
			return usage("--recall %s: not a recall (write a number above 0, at most 1)", text)
		}
		o.Recall = r
	}
	return nil
}

// whole says why an approximate search of the bank reads all of it; "" if it does
// not, or none was asked for.
func (s *session) whole(c *ucli.Context, snap *store.Snapshot, metric index.Metric) string {
	if s.json || !c.IsSet("nprobe") && !c.IsSet("recall") {
		return ""
	}
	if snap.Info().Lists == 0 {
		return fmt.Sprintf("bank %s has no IVF index (membank index build %s makes one)", snap.Bank(), snap.Bank())
	}
	record, err := snap.Lists()
	if err != nil {
		return "" // the search says it
	}
	lists, err := index.DecodeLists(record)
	if err == nil && lists.Metric != metric {
		return fmt.Sprintf("the lists of bank %s are made for %v", snap.Bank(), lists.Metric)
	}
	return ""
}

// sampled queries of an approximate search are asked again, exactly.
const sampled = 64

// approximate is what is said of answers that do not come from all rows.
type approximate struct {
	Recall  float64 `json:"recall"`         // measured on a sample of these queries
	K       int     `json:"recall_k"`       // at so many neighbours
	Queries int     `json:"recall_queries"` // of the sample
	// Asked is the recall that was asked for, null with --nprobe, and Tuned what was
	// measured for it when the lists were tuned.
	Asked *float64 `json:"asked"`
	Tuned *float64 `json:"tuned"`
	Lists float64  `json:"lists"` // read by a query, on average so far
	Of    int      `json:"nlist"`

	read, asked int64
	tuning      *index.Tuning
}

// is reports whether the answers are approximate.
func (a *approximate) is() bool { return a != nil && a.Of > 0 }

// begins reports whether a result is the first approximate one.
func (a *approximate) begins(r index.Result) bool {
	return !a.is() && r.Approximate
}

// measure looks how good the first answers are.
func (a *asking) measure(ctx context.Context, ix *index.Index, q questions, r index.Result, o index.Options) error {
	if a.excludeSelf {
		o.ExcludeRow = q.rows
	}
	m, err := ix.MeasureRecall(ctx, q.vectors, r.Hits, o, sampled)
	if err != nil {
		return err
	}
	a.Recall, a.K, a.Queries = m.Recall, m.K, m.Queries
	a.Of = index.ListCount(a.snap.Info().Lists)
	if a.tuning = r.Tuned; r.Tuned != nil {
		a.Asked, a.Tuned = &r.Tuned.Recall, &r.Tuned.Measure.Recall
	}
	return nil
}

// count adds a batch.
func (a *approximate) count(r index.Result, queries int) {
	a.read += r.Stats.Lists
	a.asked += int64(queries)
	a.Lists = float64(a.read) / float64(max(a.asked, 1))
}

// String is the line below the answers.
func (a *approximate) String() string {
	text := fmt.Sprintf("approximate: recall@%d %.4f, measured on %s of these; %.1f of %s read by a query",
		a.K, a.Recall, pluralQueries(int64(a.Queries)), a.Lists, plural(a.Of, "list"))
	if t := a.tuning; t != nil {
		of := "rows of the bank"
		if t.Measure.Own {
			of = "own queries"
		}
		text += fmt.Sprintf("; tuned for %g at k=%d: %.4f on %s %s", t.Recall, t.K, t.Measure.Recall, count(t.Measure.Queries), of)
	}
	return text
}
