package serve

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// lane lets so many requests work at once; some more wait, in no order that
// matters, and the rest are sent away at once.
type lane struct {
	slots  chan struct{}
	queued atomic.Int64
	most   int64 // that wait
	wait   time.Duration
}

func newLane(slots int, most int64, wait time.Duration) *lane {
	return &lane{slots: make(chan struct{}, slots), most: most, wait: wait}
}

// enter takes a slot; leave gives it back.
func (l *lane) enter(ctx context.Context) (leave func(), f *Fault) {
	leave = func() { <-l.slots }
	select {
	case l.slots <- struct{}{}:
		return leave, nil
	default:
	}
	if l.queued.Add(1) > l.most {
		l.queued.Add(-1)
		return nil, &Fault{Status: http.StatusTooManyRequests, Code: "overloaded", Message: "too many requests wait already (send it again in a second)", RetryAfter: 1}
	}
	defer l.queued.Add(-1)
	timer := time.NewTimer(l.wait)
	defer timer.Stop()
	select {
	case l.slots <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		return nil, &Fault{Status: http.StatusServiceUnavailable, Code: "cancelled", Message: "the request was given up before it began", RetryAfter: 1}
	case <-timer.C:
		return nil, &Fault{Status: http.StatusServiceUnavailable, Code: "overloaded", Message: "the server is busy (send it again in some seconds)", RetryAfter: 2}
	}
}

// allowance is bytes that requests hold together.
type allowance struct {
	held atomic.Int64
	most int64
}

func (a *allowance) take(n int64) bool {
	if a.held.Add(n) > a.most {
		a.held.Add(-n)
		return false
	}
	return true
}

func (a *allowance) give(n int64) { a.held.Add(-n) }
