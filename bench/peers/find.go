package peers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"membank/simd"
)

// finder looks for peers, and builds drivers where it can.
type finder struct {
	Options
	source string // membank's source tree around the working directory; "" if it is not in one
	cache  string // a directory of the user's where built drivers are kept
}

func newFinder(o Options) finder {
	f := finder{Options: o, source: sourceTree()}
	if dir, err := os.UserCacheDir(); err == nil {
		f.cache = filepath.Join(dir, "membank", "peers")
	} else {
		f.cache = filepath.Join(os.TempDir(), "membank-peers")
	}
	return f
}

// absent is why a peer is missing and what would provide it.
type absent struct{ reason, remedy string }

func (a *absent) Error() string { return a.reason }

// find returns how to start one of PeerNames, or an *absent.
func (f finder) find(ctx context.Context, peer string) ([]launch, error) {
	switch peer {
	case "faiss":
		return f.faiss(ctx)
	case "faiss-python":
		return f.python(ctx, peer, "faiss")
	case "numpy", "torch":
		return f.python(ctx, peer, peer)
	case "usearch":
		return f.usearch(ctx)
	case "chromem", "hnsw":
		return f.goModules(ctx, peer)
	}
	return nil, fmt.Errorf("no peer called %q (there are %s)", peer, strings.Join(PeerNames, ", "))
}

// sourceTree is the root of membank's source around the working directory, or "".
func sourceTree() string {
	dir, err := os.Getwd()
	for err == nil {
		text, _ := os.ReadFile(filepath.Join(dir, "go.mod"))
		if bytes.HasPrefix(text, []byte("module membank\n")) {
			return dir
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		break
	}
	return ""
}

// built returns a directory of the cache that make has filled for these contents.
// It is filled once: a directory that was left half made is made again.
func (f finder) built(name string, contents []byte, fill func(dir string) error) (string, error) {
	sum := sha256.Sum256(contents)
	dir := filepath.Join(f.cache, name+"-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(f.cache, 0o755); err != nil {
		return "", err
	}
	half, err := os.MkdirTemp(f.cache, name+"-half-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(half)
	if err := fill(half); err != nil {
		return "", err
	}
	if err := os.Rename(half, dir); err != nil {
		if _, made := os.Stat(dir); made == nil { // by another process, meanwhile
			return dir, nil
		}
		return "", err
	}
	return dir, nil
}

// command runs a tool; its error is the last line that the tool said.
func command(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	said := &tail{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s: %s", filepath.Base(name), or(said.last(), err.Error()))
	}
	return nil
}

// blasEnv holds OpenBLAS to the level that membank is held to.
func (f finder) blasEnv() []string {
	switch f.Level {
	case simd.AVX2:
		return []string{"OPENBLAS_CORETYPE=Haswell"}
	case simd.Generic:
		return []string{"OPENBLAS_CORETYPE=Prescott"}
	}
	return nil
}

// powers are widths of search from..to, each twice the one before.
func powers(name string, from, to int) []setting {
	var all []setting
	for v := from; v <= to; v *= 2 {
		all = append(all, setting{name, v})
	}
	return all
}
