package memory

import (
	"fmt"
	"math"
	"slices"

	"membank/store"
)

// Kind says whether rows are written by id or in turn.
type Kind string

const (
	KindSlots Kind = "slots" // by id: InstDisc, NPID, PIRL, CMC, ODC
	KindQueue Kind = "queue" // in turn: MoCo, NNCLR, MSF, ReSSL, SwAV, XBM
)

// Init says what rows hold before they are first written. The random ones are a
// function of seed, view and row alone.
type Init string

const (
	InitUnit        Init = "unit"         // standard normal, divided by the norm: MoCo, PyContrast, mmselfsup
	InitUniform     Init = "uniform"      // U(−a,a), a = √(3/dim), norm ≈ 1 but not 1: InstDisc, CMC
	InitUniformUnit Init = "uniform-unit" // the same, divided by the norm: VISSL with norm_init
	InitZeros       Init = "zeros"        // XBM, SwAV
	InitRows        Init = "rows"         // given at creation: from a bank, a file, k-means features
)

// Inits are the names of all of them.
var Inits = []Init{InitUnit, InitUniform, InitUniformUnit, InitZeros, InitRows}

// Wrap says what a queue does with a batch that does not end where the queue ends.
type Wrap string

const (
	WrapModulo   Wrap = "modulo"    // (cursor+i) mod capacity; of a larger batch the last rows: PyContrast, stable-pretraining
	WrapAssert   Wrap = "assert"    // capacity must be a multiple of the batch, or ErrBatch: MoCo, NNCLR, MSF, ReSSL
	WrapDropTail Wrap = "drop-tail" // writes what fits before the end, drops the rest of the batch, cursor to 0: lightly
	WrapBounded  Wrap = "bounded"   // modulo, and a batch larger than the capacity is ErrBatch: XBM
)

// Wraps are the names of all of them.
var Wraps = []Wrap{WrapModulo, WrapAssert, WrapDropTail, WrapBounded}

// Order says how positions of a queue are counted.
type Order string

const (
	OrderRing  Order = "ring"  // a row keeps its position until it is overwritten
	OrderShift Order = "shift" // a batch comes in at position 0 and moves the others on; the last fall out: SwAV
)

// Orders are the names of both.
var Orders = []Order{OrderRing, OrderShift}

// View is one array of a bank: embeddings of one kind.
type View struct {
	Dim  int  `json:"dim"`
	Init Init `json:"init"` // "" is InitUnit for slots and queues alike
	// Ranks above 1 is what VISSL's first forward does to a distributed bank: each
	// row starts as the mean of the initial rows of so many ranks, not divided by
	// the norm again, so about 1/√Ranks long until it is first written.
	Ranks int `json:"ranks,omitempty"`
}

// Config is what a memory bank is, from its creation on.
type Config struct {
	Kind  Kind   `json:"kind"`
	Rows  int64  `json:"rows"`  // of slots, or the capacity of a queue
	Views []View `json:"views"` // at least one; two for CMC's pair, one a crop for DeepCluster-v2, embeddings and class probabilities for CoMatch
	Seed  uint64 `json:"seed"`  // of initial rows and of samples
	Wrap  Wrap   `json:"wrap,omitempty"`
	Order Order  `json:"order,omitempty"`
	// Prototypes is the number of centroids that are kept with the rows, of the
	// first view's dimension (ODC). They start as zeros.
	Prototypes int64 `json:"prototypes,omitempty"`
}

const (
	maxRows  = 1 << 40
	maxViews = 64
)

// Check returns an ErrConfig if a bank cannot be made as the Config says.
func (c Config) Check() error {
	c.Views = slices.Clone(c.Views)
	return c.check()
}

// check fills in the defaults and refuses what means nothing.
func (c *Config) check() error {
	bad := func(format string, a ...any) error { return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, a...)) }
	if c.Kind != KindSlots && c.Kind != KindQueue {
		return bad("kind %q (slots or queue)", c.Kind)
	}
	if c.Rows < 1 || c.Rows > maxRows {
		return bad("%d rows (1 to 2^40)", c.Rows)
	}
	if len(c.Views) < 1 || len(c.Views) > maxViews {
		return bad("%d views (1 to %d)", len(c.Views), maxViews)
	}
	for i := range c.Views {
		v := &c.Views[i]
		if v.Init == "" {
			v.Init = InitUnit
		}
		switch {
		case v.Dim < 1 || v.Dim > store.MaxDim:
			return bad("view %d has dimension %d (1 to %d)", i, v.Dim, store.MaxDim)
		case !contains(Inits, v.Init):
			return bad("initial rows %q (one of %v)", v.Init, Inits)
		case (v.Init == InitRows) != (c.Views[0].Init == InitRows):
			return bad("view %d starts as %q and view 0 as %q: given rows are given for all views", i, v.Init, c.Views[0].Init)
		case v.Ranks < 0 || v.Ranks > 1<<16:
			return bad("%d ranks", v.Ranks)
		}
		if float64(c.Rows)*float64(v.Dim)*4 > math.MaxInt64/4 {
			return bad("%d rows of %d dimensions do not fit any memory", c.Rows, v.Dim)
		}
	}
	switch c.Kind {
	case KindSlots:
		if c.Wrap != "" || c.Order != "" {
			return bad("slots have neither wrap nor order")
		}
	case KindQueue:
		if c.Views[0].Init == InitRows {
			return bad("a queue starts random or as zeros: push rows into it")
		}
		if c.Wrap == "" {
			c.Wrap = WrapModulo
		}
		if c.Order == "" {
			c.Order = OrderRing
		}
		if !contains(Wraps, c.Wrap) {
			return bad("wrap %q (one of %v)", c.Wrap, Wraps)
		}
		if !contains(Orders, c.Order) {
			return bad("order %q (one of %v)", c.Order, Orders)
		}
		if c.Order == OrderShift && c.Wrap == WrapDropTail {
			return bad("a queue that shifts has no tail to drop")
		}
	}
	if c.Prototypes < 0 || c.Prototypes > maxRows || c.Prototypes > 0 && c.Kind != KindSlots {
		return bad("%d prototypes (slots may have some)", c.Prototypes)
	}
	return nil
}

func contains[T comparable](all []T, one T) bool {
	for _, x := range all {
		if x == one {
			return true
		}
	}
	return false
}

// Durability says what an update survives when its call returns. It covers all
// earlier updates of the bank, too, however they were acknowledged: what is on disk
// is always a state that the bank was in.
type Durability string

const (
	Memory Durability = "memory" // nothing, until a checkpoint or a more durable update
	Log    Durability = "log"    // the end of the process, kill -9 included
	Sync   Durability = "sync"   // a power cut
)

// Durabilities are the names of all of them.
var Durabilities = []Durability{Memory, Log, Sync}

// Scope says which rows may be drawn or found.
type Scope string

const (
	// ScopeDefault is all rows of slots, and of a queue those that were pushed.
	ScopeDefault Scope = ""
	// ScopeAll takes in what was never written and holds its initial value: MoCo's
	// and NNCLR's random columns act as negatives and neighbours until then.
	ScopeAll Scope = "all"
	// ScopeWritten leaves those rows out: XBM, and every evaluation.
	ScopeWritten Scope = "written"
)

func (s Scope) check() error {
	if s != ScopeDefault && s != ScopeAll && s != ScopeWritten {
		return fmt.Errorf("%w: scope %q (all or written)", ErrOptions, s)
	}
	return nil
}
