package perf

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"membank/index/memory"
	"membank/simd"
	"membank/store"
)

// MemoryOptions say what Memory measures.
type MemoryOptions struct {
	Dir        string            // where the database is made, and removed; "": temporary files
	Rows       int64             // of the slots; 0: 1,281,167
	Dim        int               // 0: 128
	Batch      int               // rows of an update and a push; 0: 256
	Negatives  int               // rows of a gather; 0: 4096
	Queue      int64             // capacity; 0: 65,536
	Steps      int               // of each kind; 0: 600
	Durability memory.Durability // "": log
	Python     string            // with NumPy, for the baseline; "": python3 if it has it, "-": none
	Progress   Progress

	// Serve starts a server on a new database in dir, and Client is its Python client:
	// then the same steps are measured over HTTP, too. nil: they are not.
	Serve  func(ctx context.Context, dir string) (*MemoryServer, error)
	Client string
}

// Memory measures what a step of training waits for: an update of slots with a gather
// of negatives before it, in one call, and a push into a queue. Beside it NumPy does
// the same on arrays in memory, without any durability, in a process of its own that
// takes turns with this one; and a Python client asks a server for the same. Figures are medians and 99th percentiles of single steps.
func Memory(ctx context.Context, o MemoryOptions) (figures []Figure, err error) {
	o.Rows, o.Dim, o.Batch, o.Negatives = or(o.Rows, 1_281_167), or(o.Dim, 128), or(o.Batch, 256), or(o.Negatives, 4096)
	o.Queue, o.Steps, o.Durability = or(o.Queue, 65_536), or(o.Steps, 600), or(o.Durability, memory.Log)
	dir, remove, err := workspace(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	db, err := store.Open(ctx, filepath.Join(dir, "database"), store.Options{Create: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	runtime.GC()
	before := resident()
	o.Progress.tell("making the bank", 0, 1)
	began := time.Now()
	slots, err := memory.Create(ctx, db, "slots", memory.Config{
		Kind: memory.KindSlots, Rows: o.Rows, Views: []memory.View{{Dim: o.Dim, Init: memory.InitUniform}},
	}, memory.CreateOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, slots.Close()) }()
	figures = append(figures, Figure{Name: "making the initial rows", Value: time.Since(began).Seconds(), Unit: "s"})
	queue, err := memory.Create(ctx, db, "queue", memory.Config{
		Kind: memory.KindQueue, Rows: o.Queue, Views: []memory.View{{Dim: o.Dim}},
	}, memory.CreateOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, queue.Close()) }()

	w := &memoryWork{o: o, r: rand.New(rand.NewPCG(1, 2)), times: map[string][]float64{}}
	if w.slots, err = slots.Slots(); err != nil {
		return nil, err
	}
	if w.queue, err = queue.Queue(); err != nil {
		return nil, err
	}
	python := findPython(ctx, o.Python)
	numpy, err := o.startNumPy(ctx, python)
	if err != nil {
		return nil, err
	}
	defer numpy.stop()
	http, stop, err := o.startHTTP(ctx, python, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	defer http.stop()
	watched := watchResidency()
	const rounds = 6
	each := max(1, o.Steps/rounds)
	for round := range rounds {
		o.Progress.tell("measuring", int64(round), rounds)
		err := w.steps(ctx, each)
		if err == nil {
			err = numpy.steps(each, w.times)
		}
		if err == nil {
			err = http.steps(each, w.times)
		}
		if err != nil {
			watched()
			return nil, err
		}
	}
	if peak := watched(); peak.known {
		vectors := 4 * (o.Rows + o.Queue) * int64(o.Dim)
		figures = append(figures, Figure{Name: "memory at the most, by the vectors of both", Value: float64(peak.anonymous-before.anonymous) / float64(vectors), Unit: "×"})
	}
	name := fmt.Sprintf("update %d + gather %d of %d × %d", o.Batch, o.Negatives, o.Rows, o.Dim)
	push := fmt.Sprintf("push %d into %d × %d", o.Batch, o.Queue, o.Dim)
	return append(figures, slices.Concat(
		w.figures(name, "slots"), w.figures(push, "queue"), w.processors(name),
		[]Figure{{Name: "log written at a step of both", Value: float64(w.bytes) / float64(max(w.count, 1)) / 1e3, Unit: "kB"}},
	)...), nil
}

// memoryWork does steps and keeps their times in milliseconds.
type memoryWork struct {
	o     MemoryOptions
	r     *rand.Rand
	slots *memory.Slots
	queue *memory.Queue
	times map[string][]float64
	bytes int64
	count int
}

func (w *memoryWork) steps(ctx context.Context, n int) error {
	rows := simd.NewMatrix(w.o.Batch, w.o.Dim)
	ids, negatives := make([]int64, w.o.Batch), make([]int64, w.o.Negatives)
	into := []simd.Matrix{simd.NewMatrix(w.o.Negatives, w.o.Dim)}
	for range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := range rows.Data {
			rows.Data[i] = w.r.Float32() - 0.5
		}
		for i := range ids {
			ids[i] = w.r.Int64N(w.o.Rows)
		}
		for i := range negatives {
			negatives[i] = w.r.Int64N(w.o.Rows)
		}
		start := time.Now()
		_, _, err := w.slots.GatherThenUpdate(ctx, negatives, ids, []simd.Matrix{rows}, memory.UpdateOptions{KeepOld: 0.5, Durability: w.o.Durability, Into: into})
		if err != nil {
			return err
		}
		w.times["slots"] = append(w.times["slots"], 1e3*time.Since(start).Seconds())
		start = time.Now()
		if _, err := w.queue.Push(ctx, []simd.Matrix{rows}, memory.PushOptions{Durability: w.o.Durability}); err != nil {
			return err
		}
		w.times["queue"] = append(w.times["queue"], 1e3*time.Since(start).Seconds())
		w.count++
	}
	w.bytes = 0
	for _, b := range []*memory.Bank{w.slots.Bank, w.queue.Bank} {
		w.bytes += b.LogBytes()
	}
	return nil
}

// figures are the times of one kind of step, and NumPy's where there are any.
func (w *memoryWork) figures(name, kind string) []Figure {
	durability := string(w.o.Durability)
	list := []Figure{
		{Name: name + ", " + durability + ", p50", Value: quantile(w.times[kind], 0.5), Unit: "ms"},
		{Name: name + ", " + durability + ", p99", Value: quantile(w.times[kind], 0.99), Unit: "ms"},
	}
	if numpy := w.times["numpy "+kind]; len(numpy) > 0 {
		list = append(list,
			Figure{Name: name + ", NumPy in memory, p50", Value: quantile(numpy, 0.5), Unit: "ms"},
			Figure{Name: name + ", NumPy in memory, p99", Value: quantile(numpy, 0.99), Unit: "ms"},
			Figure{Name: name + ", of NumPy's time", Value: list[0].Value / quantile(numpy, 0.5), Unit: "×"},
		)
	}
	if http := w.times["http "+kind]; len(http) > 0 {
		for _, q := range []struct {
			name  string
			share float64
		}{{"least", 0}, {"p25", 0.25}, {"p50", 0.5}, {"p75", 0.75}, {"p99", 0.99}} {
			list = append(list, Figure{Name: name + ", " + durability + ", from Python over HTTP, " + q.name, Value: quantile(http, q.share), Unit: "ms"})
		}
	}
	return list
}

// processors are what a step over HTTP takes of the processor on either side, which
// does not depend on what else the machine does as its time does.
func (w *memoryWork) processors(name string) (list []Figure) {
	for _, side := range []string{"client", "server"} {
		if each := w.times["http "+side]; len(each) > 0 {
			sum := 0.0
			for _, x := range each {
				sum += x
			}
			list = append(list, Figure{Name: name + ", processor time of the HTTP " + side, Value: sum / float64(len(each)), Unit: "ms"})
		}
	}
	return list
}

func quantile(times []float64, share float64) float64 {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}
