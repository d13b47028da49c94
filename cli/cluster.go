package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"membank/bench/eval"
	"membank/index/kmeans"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func clusterCommand() *ucli.Command {
	return &ucli.Command{
		Name: "cluster", Usage: "divide the rows of a bank into clusters by k-means", ArgsUsage: "BANK",
		Description: "Every row gets the number of its cluster, 0 to K-1, as the attribute \"cluster\":\n" +
			"--where 'cluster == 7' and get read it. The clusters are compared with the labels\n" +
			"of the rows, where there are some, and with the clustering that the attribute held\n" +
			"before. The same bank, options and seed give the same clusters on any machine.\n\n" +
			"  membank cluster train -c 100 --spherical\n" +
			"  membank cluster train -c 10000 --pca 256 --iterations 20      as DeepCluster\n" +
			"  membank cluster train -c 3000 --spherical --keep-empty        as DeepCluster-v2, SwAV\n" +
			"  membank cluster train -c 100 --spherical --iterations 50 --swaps 100\n" +
			"                                                                 a better optimum, slowly\n" +
			"  membank cluster train -c 1000 --no-attribute -o clusters.npz\n\n" +
			"The file holds labels int64 [rows] and scores float32 [rows] by row number (deleted\n" +
			"rows have -1 and NaN), centroids float32 [K][dim] and, with --pca, the rotation:\n" +
			"a row x is clustered as rotation·(x - mean), which all but --whiten pca then give\n" +
			"length 1.",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "clusters", Aliases: []string{"c"}, Usage: "`K` clusters"},
			&ucli.BoolFlag{Name: "spherical", Usage: "by cosine, with rows and centroids of length 1; else by distance"},
			&ucli.StringFlag{Name: "pca", Usage: "first rotate the rows to their `D` main directions, and whiten them"},
			&ucli.StringFlag{Name: "whiten", Usage: "`HOW`, with --pca: deepcluster, faiss, dino, or pca (no whitening)", Value: "deepcluster", DefaultText: "deepcluster"},
			&ucli.StringFlag{Name: "seed", Usage: "another `SEED` gives other clusters", Value: "0", DefaultText: "0"},
			&ucli.StringFlag{Name: "init", Usage: "`WHERE` centroids start: kmeans++ or random rows", Value: "kmeans++", DefaultText: "kmeans++"},
			&ucli.StringFlag{Name: "iterations", Usage: "stop after `N`, or when nothing changes", DefaultText: "25; with --batch 100"},
			&ucli.StringFlag{Name: "tolerance", Usage: "also stop when one lowers the objective by less than this `SHARE`", Value: "0", DefaultText: "0"},
			&ucli.StringFlag{Name: "restarts", Usage: "the best of `N` runs from different seeds", DefaultText: "1"},
			&ucli.StringFlag{Name: "refine", Usage: "look for a better optimum with up to `M` clusters more for a while; 5 is usual, and takes some dozens of iterations"},
			&ucli.StringFlag{Name: "swaps", Usage: "look for a better optimum by `N` random moves of a centroid; 100 is usual, and takes some hundreds of iterations"},
			&ucli.BoolFlag{Name: "keep-empty", Usage: "an empty cluster keeps its centroid instead of half of another's rows"},
			&ucli.StringFlag{Name: "max-per-cluster", Usage: "train on a sample of `N` rows a cluster, and assign all", DefaultText: "all rows"},
			&ucli.StringFlag{Name: "batch", Usage: "mini-batch k-means with `N` rows an iteration"},
			&ucli.StringFlag{Name: "against", Usage: "compare with this `ATTRIBUTE` instead of the labels"},
			&ucli.StringFlag{Name: "attribute", Usage: "write the clusters as attribute `NAME`", Value: "cluster", DefaultText: "cluster"},
			&ucli.BoolFlag{Name: "no-attribute", Usage: "leave the bank as it is"},
			noCodesFlag(),
			outputFlag("write labels and centroids to `FILE`.npz"),
			cardFlag(),
		},
		Action: action([]string{"BANK"}, runCluster),
	}
}

// clustering is what the command prints.
type clustering struct {
	Bank          string        `json:"bank"`
	Rows          int           `json:"rows"` // live ones
	Dim           int           `json:"dim"`  // that were clustered
	Clusters      int           `json:"clusters"`
	Spherical     bool          `json:"spherical"`
	PCA           int           `json:"pca"`           // 0: none
	Whitening     string        `json:"whitening"`     // "": none
	KeptVariance  *float64      `json:"kept_variance"` // by the directions of PCA
	Seed          uint64        `json:"seed"`
	Init          string        `json:"init"`
	InitRows      int           `json:"init_rows"`  // that k-means++ drew from
	TrainRows     int           `json:"train_rows"` // of an iteration
	Iterations    int           `json:"iterations"`
	Converged     bool          `json:"converged"`
	Objective     float64       `json:"objective"`   // Σ‖x−c‖² over all rows
	MeanCosine    *float64      `json:"mean_cosine"` // with the centroids, spherical only
	History       []float64     `json:"history"`     // objective at each iteration
	EmptyResolved int           `json:"empty_resolved"`
	Empty         int           `json:"empty"`
	Smallest      int64         `json:"smallest"`
	Median        float64       `json:"median"`
	Largest       int64         `json:"largest"`
	Imbalance     float64       `json:"imbalance"` // K·Σ(n_c/N)², 1 is balanced
	Against       string        `json:"against"`   // "labels", an attribute, or "" for nothing
	agreement                   // with that
	Previous      *agreedBefore `json:"previous"` // with the clusters that the attribute held
	Attribute     string        `json:"attribute"`
	File          string        `json:"file"`
	PerIteration  float64       `json:"seconds_per_iteration"`
	Seconds       float64       `json:"seconds"`
}

// agreement of two labelings; null where there is nothing to compare.
type agreement struct {
	ComparedRows int64    `json:"compared_rows"`
	NMI          *float64 `json:"nmi"` // arithmetic mean
	AMI          *float64 `json:"ami"`
	ARI          *float64 `json:"ari"`
	Purity       *float64 `json:"purity"`
	Hungarian    *float64 `json:"hungarian_acc"`               // where there are as many clusters as classes
	Missing      string   `json:"agreement_missing,omitempty"` // why all of these are null, although rows were compared
}

type agreedBefore struct {
	agreement
	Changed float64 `json:"changed"` // share of rows whose number is another one
}

func runCluster(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	start := time.Now()
	o, err := clusterOptions(s, c)
	if err != nil {
		return err
	}
	path := c.String("output")
	if path != "" && !strings.EqualFold(filepath.Ext(path), ".npz") {
		return usage("-o %s: clusters are written as .npz (name such a file)", path)
	}
	attribute := c.String("attribute")
	open := func(work func(*store.DB) error) error { return s.writing(ctx, false, work) }
	if c.Bool("no-attribute") {
		if c.IsSet("attribute") {
			return usage("--attribute and --no-attribute: which? (leave one out)")
		}
		attribute = ""
		open = func(work func(*store.DB) error) error { return s.reading(ctx, work) }
	}
	return open(func(db *store.DB) error {
		w := &clusterWork{session: s, o: o, attribute: attribute, against: c.String("against")}
		w.report.Attribute, w.report.File = attribute, path
		err := snapshot(db, args[0], func(snap *store.Snapshot) error {
			if err := s.uses(ctx, snap); err != nil {
				return err
			}
			if err := w.train(ctx, c, snap); err != nil {
				return err
			}
			if err := w.compare(ctx, snap); err != nil {
				return err
			}
			if path == "" {
				return nil
			}
			return w.writeFile(path, snap.Info().Next)
		})
		if err == nil && attribute != "" {
			err = w.writeAttribute(ctx, db, args[0])
		}
		if err != nil {
			return err
		}
		w.report.Seconds = time.Since(start).Seconds()
		return s.emit(w.report, func(out io.Writer) { printClustering(out, &w.report) })
	})
}

// clusterOptions reads the flags.
func clusterOptions(s *session, c *ucli.Context) (o kmeans.Options, err error) {
	n, err := counts(c, "clusters", "pca", "iterations", "restarts", "max-per-cluster", "batch", "refine", "swaps")
	if err != nil {
		return o, err
	}
	if n["clusters"] == 0 {
		return o, usage("%s: into how many clusters? (give -c K)", s.name)
	}
	for name, v := range n {
		if v > math.MaxInt32 {
			return o, usage("%s %d: too many", dashed(name), v)
		}
	}
	o = kmeans.Options{
		Clusters: int(n["clusters"]), Spherical: c.Bool("spherical"), Iterations: int(n["iterations"]), Restarts: int(n["restarts"]),
		MaxPerCluster: int(n["max-per-cluster"]), Batch: int(n["batch"]), KeepEmpty: c.Bool("keep-empty"), Refine: int(n["refine"]), Swaps: int(n["swaps"]),
		NoCodes: c.Bool("no-codes"), Threads: s.threads,
	}
	if o.Batch > 0 && o.Iterations == 0 {
		o.Iterations = 100
	}
	if o.Batch > 0 && (o.MaxPerCluster > 0 || o.Refine > 0 || o.Swaps > 0 || c.IsSet("tolerance")) {
		return o, usage("--batch: has no use for --max-per-cluster, --refine, --swaps and --tolerance (leave them out)")
	}
	if o.Seed, err = seedOf(c, 64); err != nil {
		return o, err
	}
	if o.Tolerance, err = strconv.ParseFloat(c.String("tolerance"), 64); err != nil || !(o.Tolerance >= 0 && o.Tolerance < 1) {
		return o, usage("--tolerance %s: not a share (write 0.001)", c.String("tolerance"))
	}
	switch c.String("init") {
	case "kmeans++", "k-means++":
	case "random":
		o.Seeding = kmeans.RandomRows
	default:
		return o, usage("--init %s: unknown (kmeans++ or random)", c.String("init"))
	}
	if n["pca"] == 0 && c.IsSet("whiten") {
		return o, usage("--whiten: to how many directions? (give --pca D)")
	}
	if _, err := kmeans.ParseWhitening(c.String("whiten")); err != nil {
		return o, usage("--whiten %s: unknown (deepcluster, faiss, dino or pca)", c.String("whiten"))
	}
	return o, nil
}

// clusterWork is one run of the command.
type clusterWork struct {
	*session
	o         kmeans.Options
	attribute string
	against   string
	report    clustering

	bank     *kmeans.BankRows
	whitened *kmeans.Whitened // nil: not whitened
	result   *kmeans.Result
	labels   []int64 // of each row number; NoLabel for deleted rows
}

// train reads the bank, whitens it if asked, and clusters it.
func (w *clusterWork) train(ctx context.Context, c *ucli.Context, snap *store.Snapshot) (err error) {
	if w.bank, err = kmeans.Bank(ctx, snap); err != nil {
		return err
	}
	w.bank = w.bank.InRowOrder()
	var progress bar
	defer func() { progress.close() }()
	stage := ""
	tell := func(p kmeans.Progress) {
		name := p.Stage
		if p.Stage == "iterating" {
			name = fmt.Sprintf("iteration %d", p.Iteration+1)
		}
		if w.o.Restarts > 1 && p.Stage != "mean" && p.Stage != "covariance" {
			name = fmt.Sprintf("run %d, %s", p.Restart+1, name)
		}
		if p.Objective > 0 {
			name += fmt.Sprintf(", objective %.6g", p.Objective)
		}
		if name != stage {
			progress.close()
			stage = name
			progress = w.newBar("cluster: "+name, "", p.Total)
		}
		progress.set(p.Done)
	}
	var source kmeans.Source = w.bank
	if d, _ := whole64(c, "pca"); d > 0 {
		how, _ := kmeans.ParseWhitening(c.String("whiten"))
		if int(d) > w.bank.Dim() {
			return usage("--pca %d: bank %s has %d dimensions (keep at most as many)", d, snap.Bank(), w.bank.Dim())
		}
		w.whitened, err = kmeans.Whiten(ctx, w.bank, kmeans.WhitenOptions{Dim: int(d), How: how, Threads: w.threads, Progress: tell})
		if err != nil {
			return ofBank(err, snap.Bank())
		}
		source = w.whitened
		kept := w.whitened.Kept()
		w.report.PCA, w.report.Whitening, w.report.KeptVariance = int(d), string(how), &kept
		if int64(source.Rows())*int64(source.Dim())*4 <= w.budget()/2 {
			if source, err = kmeans.Hold(ctx, source, w.threads); err != nil {
				return err
			}
		}
	}
	w.o.Progress = tell
	w.result, err = kmeans.Train(ctx, source, w.o)
	if err != nil {
		return ofBank(err, snap.Bank())
	}
	r := w.result
	w.labels = make([]int64, snap.Info().Next)
	for i := range w.labels {
		w.labels[i] = store.NoLabel
	}
	for i, label := range r.Labels {
		w.labels[w.bank.Number(i)] = int64(label)
	}
	w.report.Bank, w.report.Rows, w.report.Dim = snap.Bank(), source.Rows(), source.Dim()
	w.report.Clusters, w.report.Spherical, w.report.Seed = w.o.Clusters, w.o.Spherical, w.o.Seed
	w.report.Init, w.report.InitRows, w.report.TrainRows = w.o.Seeding.String(), r.SeedRows, r.TrainRows
	w.report.Iterations, w.report.Converged, w.report.History = r.Iterations, r.Converged, r.History
	w.report.Objective, w.report.EmptyResolved = r.Objective, r.Splits
	w.report.Empty, w.report.Smallest, w.report.Median, w.report.Largest = r.Empty, r.Min, r.Median, r.Max
	w.report.Imbalance, w.report.PerIteration = r.Imbalance, r.IterationSeconds
	if w.o.Spherical {
		w.report.MeanCosine = &r.MeanCosine
	}
	return nil
}

// budget is what the command may hold in memory.
func (s *session) budget() int64 {
	if s.memory > 0 {
		return s.memory
	}
	return 2 << 30
}

// ofBank names the bank that a clustering failed on, where that is not known.
func ofBank(err error, bank string) error {
	if errors.Is(err, kmeans.ErrTooFewRows) || errors.Is(err, kmeans.ErrVariance) || errors.Is(err, kmeans.ErrRow) || errors.Is(err, kmeans.ErrOptions) {
		return fmt.Errorf("bank %q: %w", bank, err)
	}
	return err
}

// compare says how far the clusters agree with labels or another attribute, and
// with what the attribute held that they replace.
func (w *clusterWork) compare(ctx context.Context, snap *store.Snapshot) error {
	other, err := []int64(nil), error(nil)
	switch {
	case w.against != "":
		if other, err = attributeLabels(ctx, snap, w.against); err == nil && other == nil {
			return notFound("--against %s: bank %s has no such attribute (membank show names them)", w.against, snap.Bank())
		}
		w.report.Against = w.against
	default:
		if other, err = snap.Labels(ctx); anyLabel(other) {
			w.report.Against = "labels"
		}
	}
	if err != nil {
		return err
	}
	if w.report.Against != "" {
		w.report.agreement, err = agree(ctx, w.labels, other, w.o.Clusters)
		switch {
		case errors.Is(err, eval.ErrAgreement) && w.against == "":
			w.report.Against = "" // one row with a label says nothing
		case err != nil:
			return fmt.Errorf("bank %q, clusters and %s: %w", snap.Bank(), w.report.Against, err)
		}
	}
	if w.attribute == "" || w.attribute == w.against {
		return nil
	}
	before, err := attributeLabels(ctx, snap, w.attribute)
	if err != nil || before == nil {
		return err
	}
	agreed, err := agree(ctx, w.labels, before, w.o.Clusters)
	if errors.Is(err, eval.ErrAgreement) {
		return nil // fewer than two rows had it
	}
	changed := int64(0)
	for row, label := range w.labels {
		if label != store.NoLabel && before[row] != store.NoLabel && label != before[row] {
			changed++
		}
	}
	w.report.Previous = &agreedBefore{agreed, float64(changed) / float64(max(agreed.ComparedRows, 1))}
	return err
}

func anyLabel(labels []int64) bool {
	for _, l := range labels {
		if l != store.NoLabel {
			return true
		}
	}
	return false
}

// agree compares clusters with classes. The best one-to-one map is looked for only
// where there are as many of one as of the other: it means little elsewhere. asked is
// how many clusters were asked for.
func agree(ctx context.Context, clusters, classes []int64, asked int) (a agreement, err error) {
	t, err := eval.NewContingency(clusters, classes)
	if err != nil {
		return a, err
	}
	some, others := t.Labels()
	if why := (eval.Agreement{Rows: t.Rows(), Clusters: some, Classes: others}).Foregone(asked); why != "" {
		return agreement{ComparedRows: t.Rows(), Missing: why}, nil
	}
	nmi, ami, ari, purity := t.NMI(eval.Arithmetic), t.AMI(eval.Arithmetic), t.ARI(), t.Purity()
	a = agreement{ComparedRows: t.Rows(), NMI: &nmi, AMI: &ami, ARI: &ari, Purity: &purity}
	if some == others {
		hungarian, err := t.HungarianAccuracy(ctx)
		if err != nil {
			return a, err
		}
		a.Hungarian = &hungarian
	}
	return a, nil
}

// attributeLabels numbers the values of an attribute: whole numbers by themselves,
// others in the order in which they occur, behind those. It returns nil if the bank
// has no such attribute; rows without a value have NoLabel.
func attributeLabels(ctx context.Context, snap *store.Snapshot, name string) ([]int64, error) {
	labels := make([]int64, snap.Info().Next)
	for i := range labels {
		labels[i] = store.NoLabel
	}
	others := map[store.Value]int64{}
	any := false
	r := snap.NewReader()
	for block := range snap.Blocks() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		err := r.Columns(block, func(c *store.Columns) error {
			for i, row := range c.Row {
				v := c.Attribute(name, i)
				if c.Dead[i] || v.IsNull() {
					continue
				}
				any = true
				if v.Kind() == store.KindInt && v.Int() >= 0 {
					labels[row] = v.Int()
					continue
				}
				id, known := others[v]
				if !known {
					id = math.MaxInt64 - int64(len(others))
					others[v] = id
				}
				labels[row] = id
			}
			return nil
		}, name)
		if err != nil {
			return nil, err
		}
	}
	if !any {
		return nil, nil
	}
	return labels, nil
}

// writeAttribute makes the clusters an attribute of the rows.
func (w *clusterWork) writeAttribute(ctx context.Context, db *store.DB, bank string) error {
	values := make([]store.Value, len(w.labels))
	for row, label := range w.labels {
		if label != store.NoLabel {
			values[row] = store.Int(label)
		}
	}
	_, err := db.SetAttributes(ctx, bank, []store.Attribute{{Name: w.attribute, Values: values}})
	return err
}
