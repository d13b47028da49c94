package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// The files that DINO's eval_knn.py writes with --dump_features and reads with
// --load_features, and the banks that they become for the time of an evaluation.
var dinoFiles = []struct{ bank, features, labels string }{
	{"train", "trainfeat.pth", "trainlabels.pth"},
	{"test", "testfeat.pth", "testlabels.pth"},
}

// evalDINO evaluates a directory of DINO's four files. The rows go through a database
// of their own, in the directory for temporary files, that is removed at the end: so
// they are checked as those of any bank, and memory does not grow with them.
func evalDINO(ctx context.Context, s *session, c *ucli.Context, evaluate func(db *store.DB) error) (err error) {
	if s.served != nil || s.remote != nil {
		return usage("%s: --dino reads files where the command runs (leave --db at a directory)", s.name)
	}
	if c.String("train") != "" || c.String("test") != "" {
		return usage("%s: --dino brings its own rows (leave out --train and --test)", s.name)
	}
	from := c.String("dino")
	dir, err := os.MkdirTemp("", "membank-dino-*")
	if err != nil {
		return fmt.Errorf("a directory for the rows of %s: %w", from, err)
	}
	defer func() {
		if e := os.RemoveAll(dir); e != nil && err == nil {
			err = e
		}
	}()
	db, err := store.Open(ctx, filepath.Join(dir, "db"), store.Options{Create: true, Memory: s.memory, Logger: s.log})
	if err != nil {
		return err
	}
	defer func() {
		if e := db.Close(); e != nil && err == nil {
			err = e
		}
	}()
	for _, f := range dinoFiles {
		if f.bank == "test" && c.Bool("leave-one-out") {
			continue
		}
		in := &sources{paths: []string{filepath.Join(from, f.features)}, labels: filepath.Join(from, f.labels)}
		if err := in.check(); err != nil {
			return err
		}
		if _, err := s.ingest(ctx, db, f.bank, in, store.WriterOptions{ClassNames: in.names()}, time.Now()); err != nil {
			return err
		}
		if f.bank == "train" && !c.Bool("no-codes") {
			if err := s.encodeIngested(ctx, db, f.bank); err != nil {
				return err
			}
		}
	}
	return evaluate(db)
}
