package peers

import (
	"runtime"
	"time"

	"membank/simd"
)

// Options say what Run compares. The zero value is the case whose numbers people
// compare: 400,000 rows, 2,048 queries, k = 20, all exact peers found, all cores.
type Options struct {
	Dir     string        // for rows, queries and the database; "": temporary files
	Sets    []string      // of SetNames; nil: all
	Rows    int64         // of a set; 0: 400,000
	Dim     int           // of the set "ssl"; 0: 384
	Queries int           // of a batch; 0: 2,048
	Singles int           // calls in a round of single queries; 0: 16, negative: none
	K       []int         // nil: 20
	Threads int           // for everyone; 0: GOMAXPROCS
	Rounds  int           // 0: 5
	Budget  time.Duration // of a turn; a slow peer gets fewer turns, or single queries; 0: 10 s
	Truth   int           // queries whose recall is measured; 0: 64
	Seed    uint64
	// Level, if set, is the SIMD level that membank uses. Peers that can choose
	// are held to it as well: FAISS's library and OpenBLAS's kernels.
	Level simd.Level
	// Peers, if not nil, are those to look for; of PeerNames.
	Peers []string
	// Graphs adds the peers' approximate indexes, each at several widths of search.
	Graphs bool
	// Lists, if not 0, makes a bank of so many lists and compares it, at several
	// recalls, with the peers' indexes by list and with graphs.
	Lists int
	// Offline builds drivers only from what is on the machine.
	Offline bool
	// Features and FeatureQueries are .npy files of real embeddings for the set
	// "real"; "" takes those in membank's source, if the working directory is in it.
	Features, FeatureQueries string
	Progress                 Progress
}

// SetNames are the sets of rows: "ssl" as perf.Gallery makes them, "real" embeddings
// of an encoder, repeated with a little noise until there are enough.
var SetNames = []string{"ssl", "real"}

// PeerNames are the peers that Run can look for.
var PeerNames = []string{"faiss", "faiss-python", "usearch", "chromem", "hnsw", "numpy", "torch"}

// Progress is told what happens, a line at a time. It may be nil.
type Progress func(line string)

func (p Progress) tell(line string) {
	if p != nil {
		p(line)
	}
}

func (o Options) withDefaults() Options {
	if o.Sets == nil {
		o.Sets = SetNames
	}
	if o.Peers == nil {
		o.Peers = PeerNames
	}
	if o.K == nil {
		o.K = []int{20}
	}
	o.Rows, o.Dim, o.Queries = or(o.Rows, 400_000), or(o.Dim, 384), or(o.Queries, 2048)
	o.Singles, o.Rounds, o.Truth = or(o.Singles, 16), or(o.Rounds, 5), min(or(o.Truth, 64), o.Queries)
	o.Threads, o.Budget = or(o.Threads, runtime.GOMAXPROCS(0)), or(o.Budget, 10*time.Second)
	return o
}

// or is v, or the default where v is zero.
func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
