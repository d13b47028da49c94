// Gopeers puts Go's vector libraries behind the requests that ../faiss/driver.cpp
// describes, for membank bench peers. It is a module of its own, so that membank
// depends on none of them.
//
//	gopeers chromem|hnsw GALLERY.f32 ROWS DIM QUERIES.f32 COUNT THREADS
//
// chromem is exact, hnsw a graph (M 32, EfConstruction 200). A batch is asked with
// "set parallel N" queries at a time; hnsw takes "set fetch N".
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// engine is a library with a gallery in it.
type engine interface {
	// search writes the rows nearest to query into ids, best first.
	search(query []float32, ids []int64) error
	set(name string, value int) error
	about() (module, index string)
}

type driver struct {
	engine
	queries  [][]float32
	parallel int
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gopeers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 7 {
		return fmt.Errorf("usage: gopeers chromem|hnsw GALLERY.f32 ROWS DIM QUERIES.f32 COUNT THREADS")
	}
	var sizes [4]int // rows, dim, count, threads
	for i, at := range []int{2, 3, 5, 6} {
		n, err := strconv.Atoi(args[at])
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a number", args[at])
		}
		sizes[i] = n
	}
	runtime.GOMAXPROCS(sizes[3])
	gallery, err := load(args[1], sizes[0], sizes[1])
	if err != nil {
		return err
	}
	d := driver{parallel: 1}
	if d.queries, err = load(args[4], sizes[2], sizes[1]); err != nil {
		return err
	}
	start := time.Now()
	switch args[0] {
	case "chromem":
		d.engine, err = newChromem(gallery, sizes[3])
	case "hnsw":
		d.engine = newHNSW(gallery)
	default:
		err = fmt.Errorf("no library called %q", args[0])
	}
	if err != nil {
		return err
	}
	module, index := d.about()
	say(map[string]any{
		"name": module[strings.LastIndex(module, "/")+1:], "version": version(module),
		"level": runtime.Version(), "index": index, "build_seconds": time.Since(start).Seconds(),
	})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		answer, err := d.answer(strings.Fields(lines.Text()))
		if err != nil {
			return fmt.Errorf("%s: %w", lines.Text(), err)
		}
		say(answer)
	}
	return nil
}

func (d *driver) answer(words []string) (any, error) {
	if len(words) < 3 {
		return nil, fmt.Errorf("no such request")
	}
	var numbers [3]int
	for i, w := range words[1:] {
		numbers[i%3], _ = strconv.Atoi(w)
	}
	switch words[0] {
	case "batch":
		k, n := numbers[0], numbers[1]
		ids := make([]int64, n*k)
		start := time.Now()
		if err := d.batch(ids, n, k); err != nil {
			return nil, err
		}
		spent := time.Since(start)
		f, err := os.Create(words[3])
		if err != nil {
			return nil, err
		}
		if err := binary.Write(f, binary.LittleEndian, ids); err != nil {
			return nil, err
		}
		return map[string]any{"seconds": spent.Seconds()}, f.Close()
	case "single":
		k, n, first := numbers[0], numbers[1], numbers[2]
		calls, ids := make([]float64, n), make([]int64, k)
		for i := range calls {
			start := time.Now()
			if err := d.search(d.queries[(first+i)%len(d.queries)], ids); err != nil {
				return nil, err
			}
			calls[i] = time.Since(start).Seconds()
		}
		return map[string]any{"calls": calls}, nil
	case "set":
		var err error
		if words[1] == "parallel" {
			d.parallel = numbers[1]
		} else {
			err = d.set(words[1], numbers[1])
		}
		return map[string]any{"seconds": 0}, err
	}
	return nil, fmt.Errorf("no such request")
}

func (d *driver) batch(ids []int64, n, k int) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	failed := make(chan error, d.parallel)
	for range d.parallel {
		wg.Go(func() {
			for q := int(next.Add(1) - 1); q < n; q = int(next.Add(1) - 1) {
				if err := d.search(d.queries[q], ids[q*k:(q+1)*k]); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	return <-failed
}

// load reads rows of bare little-endian float32.
func load(path string, rows, dim int) ([][]float32, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in, buffer := bufio.NewReaderSize(f, 1<<20), make([]byte, 4*dim)
	all := make([][]float32, rows)
	for i := range all {
		if _, err := io.ReadFull(in, buffer); err != nil {
			return nil, fmt.Errorf("%s: row %d: %w", path, i, err)
		}
		all[i] = make([]float32, dim)
		for j := range all[i] {
			all[i][j] = math.Float32frombits(binary.LittleEndian.Uint32(buffer[4*j:]))
		}
	}
	return all, nil
}

// version is the module's, as this program was built with it.
func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		for _, m := range info.Deps {
			if m.Path == module {
				return strings.TrimPrefix(m.Version, "v")
			}
		}
	}
	return ""
}

func say(answer any) {
	line, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(line, '\n'))
}
