package perf

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"membank/simd"
)

// onThreads runs f on n goroutines at once and returns the sum of the rates they
// report.
func onThreads(n int, f func(thread int) float64) float64 {
	rates := make([]float64, n)
	var wg sync.WaitGroup
	for t := range n {
		wg.Go(func() { rates[t] = f(t) })
	}
	wg.Wait()
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	return sum
}

// PeakFMA is the rate of independent FMAs on registers, on that many threads for
// about d, at the active SIMD level: floating-point operations a second, two an FMA.
func PeakFMA(ctx context.Context, threads int, d time.Duration) float64 {
	return onThreads(threads, func(int) float64 {
		return rate(ctx, d, func() float64 { return float64(simd.PeakFMA(1 << 16)) })
	})
}

// PeakInt8 is PeakFMA for products of codes: operations a second of the instruction
// that CodeScan is made of, two a product.
func PeakInt8(ctx context.Context, threads int, d time.Duration) float64 {
	return onThreads(threads, func(int) float64 {
		return rate(ctx, d, func() float64 { return float64(simd.PeakInt8(1 << 16)) })
	})
}

// ReadMemory is the rate at which threads read a buffer from end to end, each its
// own part, for about d: bytes a second. The buffer should be several times the
// size of the last cache, and have been written once.
func ReadMemory(ctx context.Context, buffer []byte, threads int, d time.Duration) float64 {
	return onThreads(threads, func(t int) float64 {
		part := buffer[len(buffer)*t/threads : len(buffer)*(t+1)/threads]
		return rate(ctx, d, func() float64 {
			readSink.Store(simd.ReadBytes(part))
			return float64(len(part))
		})
	})
}

// pages is a buffer of n bytes that is really there: a page that was never written
// is one page of zeroes in the cache, however large the buffer.
func pages(n int64) []byte {
	b := make([]byte, n)
	for i := int64(0); i < n; i += 4096 {
		b[i] = 1
	}
	return b
}

// copySync copies a file and syncs the copy, as `cp` and `sync` do, and returns the
// bytes a second. The copy is removed. Reading and writing by hand keeps the kernel
// from sharing the blocks, as cp does where the file system can.
func copySync(ctx context.Context, from, to string) (r float64, err error) {
	start := time.Now()
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close(), os.Remove(to)) }()
	var bytes int64
	for buffer := make([]byte, 1<<20); ; {
		n, err := in.Read(buffer)
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			_, err = out.Write(buffer[:n])
		}
		if err != nil {
			return 0, err
		}
		bytes += int64(n)
	}
	if err := out.Sync(); err != nil {
		return 0, err
	}
	return float64(bytes) / time.Since(start).Seconds(), nil
}
