package eval

import "context"

// beside runs work that knows no context and cannot be stopped, such as gonum's
// factorisations, which take minutes at some thousand dimensions. When ctx ends first
// it returns at once; the work goes on beside, of no use to anybody, until it is done:
// it must own all that it reads and writes, and its result must not be read then.
func beside(ctx context.Context, work func()) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
