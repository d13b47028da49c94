package cli

import (
	"context"
	"runtime"

	"membank/cli/serve"
	"membank/store"
)

// host is the database behind a server: what requests share.
type host struct {
	db       *store.DB
	images   string
	threads  int
	memory   int64 // of one request
	painters chan struct{}
	banks    *openBanks
}

// painters is how many images are decoded at once: one may take 256 MiB.
const painters = 2

func newHost(s *session, db *store.DB, images string, bankMemory int64) *host {
	memory := s.memory
	if memory == 0 {
		memory = 1 << 30
	}
	workers := max(2, runtime.GOMAXPROCS(0))
	return &host{db: db, images: images, threads: s.threads, memory: max(64<<20, memory/int64(workers)), painters: make(chan struct{}, painters), banks: newOpenBanks(db, bankMemory)}
}

// run runs a request's command.
func (h *host) run(ctx context.Context, call *serve.Call) error {
	return runCall(ctx, served{db: h.db, call: call, images: h.images, threads: h.threads, memory: h.memory, banks: h.banks})
}

func (h *host) close() error { return h.banks.close() }

// gauges are the figures of the database.
func (h *host) gauges() map[string]serve.Gauge {
	sum := func(of func(store.Info) float64) func() float64 {
		return func() (total float64) {
			infos, _ := h.db.Banks("") // damaged banks are not counted
			for _, i := range infos {
				total += of(i)
			}
			return total
		}
	}
	return map[string]serve.Gauge{
		"membank_banks":        {Help: "Banks in the database.", Value: sum(func(store.Info) float64 { return 1 })},
		"membank_rows":         {Help: "Live rows of all banks.", Value: sum(func(i store.Info) float64 { return float64(i.Rows) })},
		"membank_bank_bytes":   {Help: "Bytes of all banks on disk.", Value: sum(func(i store.Info) float64 { return float64(i.Bytes) })},
		"membank_memory_banks": {Help: "Memory banks that are open.", Value: func() float64 { n, _ := h.banks.total(); return float64(n) }},
		"membank_memory_bytes": {Help: "Bytes of rows that they hold in memory.", Value: func() float64 { _, n := h.banks.total(); return float64(n) }},
	}
}

// picture is the thumbnail of a row, whose key names an image.
func (h *host) picture(ctx context.Context, bank string, row int64) (kind string, data []byte, ok bool) {
	select {
	case h.painters <- struct{}{}:
		defer func() { <-h.painters }()
	case <-ctx.Done():
		return "", nil, false
	}
	snap, err := h.db.Snapshot(bank)
	if err != nil {
		return "", nil, false
	}
	defer snap.Close()
	rows, err := snap.Rows(ctx, []int64{row}, store.Want{})
	if err != nil {
		return "", nil, false
	}
	p, err := openPictures(h.images)
	if err != nil {
		return "", nil, false
	}
	defer p.close()
	p.candidates(rows[0].Key, func(file []byte) bool {
		kind, data, _, ok = thumbnailBytes(file)
		return ok
	})
	return kind, data, ok
}

// pictured is the longer side of the image that a key names; 0: it names none.
func (h *host) pictured(key string) int {
	p, err := openPictures(h.images)
	if err != nil {
		return 0
	}
	defer p.close()
	return p.pixels(key)
}
