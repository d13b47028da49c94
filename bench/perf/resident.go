package perf

import "time"

// residency is the memory of this process: the most that was seen.
type residency struct {
	anonymous int64 // bytes of heap, stacks and shared memory
	mapped    int64 // bytes of mapped files that are in memory
	known     bool
}

// watchResidency samples until the function it returns is called, which returns the
// peaks.
func watchResidency() func() residency {
	var peak residency
	stop, done := make(chan struct{}), make(chan struct{})
	sample := func() {
		now := resident()
		peak.anonymous, peak.mapped = max(peak.anonymous, now.anonymous), max(peak.mapped, now.mapped)
		peak.known = now.known
	}
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			sample()
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() residency {
		close(stop)
		<-done
		sample()
		return peak
	}
}
