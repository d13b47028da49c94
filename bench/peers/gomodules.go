package peers

import (
	"context"
	"path/filepath"
	"strings"
)

// goModules builds the driver of Go's libraries, a module of its own in the source.
func (f finder) goModules(ctx context.Context, peer string) ([]launch, error) {
	if peer == "hnsw" && !f.Graphs {
		return nil, &absent{"its index is approximate", "ask for graphs as well"}
	}
	if f.source == "" {
		return nil, &absent{"its driver is built from membank's source", "run this inside the source tree"}
	}
	dir := filepath.Join(f.source, "bench", "peers", "gopeers")
	env := []string{"GOFLAGS=-mod=readonly", "GOWORK=off"}
	if f.Offline {
		env = append(env, "GOPROXY=off")
	}
	driver := filepath.Join(f.cache, "gopeers")
	if err := command(ctx, dir, env, "go", "build", "-o", driver, "."); err != nil {
		return nil, &absent{"its driver does not build: " + strings.TrimSpace(err.Error()), "needs Go, and once its module proxy"}
	}
	l := launch{peer: peer, command: []string{driver}, index: peer, exact: peer == "chromem", loops: true}
	if f.Threads > 1 {
		l.tunings = [][]setting{{{"parallel", 1}}, {{"parallel", f.Threads}}}
	}
	if peer == "hnsw" {
		l.settings = powers("fetch", 32, 512)
	}
	return []launch{l}, nil
}
