package serve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Limits of connections.
const (
	headerTime     = 5 * time.Second
	idleTime       = 60 * time.Second
	headerBytes    = 64 << 10
	connections    = 1024
	stopTime       = 20 * time.Second // for requests under way when the server stops
	abandonTime    = 5 * time.Second  // for those that were then cancelled to come back
	bufferedBodies = 64 << 20
)

// DefaultMaxBody is the largest body where Options.MaxBody is 0.
const DefaultMaxBody = 16 << 30

var errStopping = errors.New("the server is stopping")

// Options of a Server.
type Options struct {
	Routes []Route
	// Run runs a command; it is called from many goroutines.
	Run func(ctx context.Context, call *Call) error
	// Explain words an error that Run or a Route returned.
	Explain func(error) Fault
	// Picture is the thumbnail of a row, if there is one.
	Picture func(ctx context.Context, bank string, row int64) (mime string, data []byte, ok bool)
	// Pictured is the longer side, in pixels, of the picture of a row with that key,
	// without making it; 0: it has none.
	Pictured func(key string) int
	Token    []byte   // nil: none is asked for
	Hosts    []string // names beside the bound address that clients may use
	MaxBody  int64    // bytes; 0: DefaultMaxBody
	Workers  int      // requests that work at once; 0: GOMAXPROCS, at least 2
	Gauges   map[string]Gauge
	Version  string
	Log      *slog.Logger
	// Stopping, if set, is told of the orderly stop before requests are awaited.
	Stopping func()
	// StopTime is how long requests under way have when the server stops; 0: 20 s.
	StopTime time.Duration
}

// Gauge is a figure of the application for /metrics.
type Gauge struct {
	Help  string
	Value func() float64
}

// Server answers requests. Make one with New and run it with Serve once.
type Server struct {
	o        Options
	guard    *guard
	mux      *http.ServeMux
	metrics  *metrics
	work     *lane // searches and evaluations
	light    *lane // what costs next to nothing
	uploads  *lane // bodies too long to read beforehand
	buffers  *allowance
	stopping atomic.Bool
	active   atomic.Int64 // requests inside handlers
	headers  time.Duration
	pause    time.Duration // of a body
	leave    time.Duration // for each piece of an answer
}

// New makes a server for a listener.
func New(l net.Listener, o Options) (*Server, error) {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, err
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.Workers == 0 {
		o.Workers = max(2, runtime.GOMAXPROCS(0))
	}
	if o.StopTime == 0 {
		o.StopTime = stopTime
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	hosts := append([]string{host}, o.Hosts...)
	if ip := net.ParseIP(host); ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		hosts = append(hosts, "localhost", "127.0.0.1", "::1")
	}
	s := &Server{
		o: o, guard: newGuard(hosts, port, o.Token), metrics: newMetrics(o.Gauges),
		work:    newLane(o.Workers, int64(16*o.Workers), 10*time.Second),
		light:   newLane(64, 256, 10*time.Second),
		uploads: newLane(2*o.Workers, int64(2*o.Workers), 10*time.Second),
		buffers: &allowance{most: bufferedBodies},
		headers: headerTime, pause: readPause, leave: writePause,
	}
	return s, s.routes()
}

// routes registers all there is.
func (s *Server) routes() error {
	s.mux = http.NewServeMux()
	document, err := s.openAPI()
	if err != nil {
		return err
	}
	for i := range s.o.Routes {
		route := &s.o.Routes[i]
		s.handle(route.Method+" "+route.Path, func(w http.ResponseWriter, r *http.Request) error {
			if s.stopping.Load() {
				return &Fault{Status: http.StatusServiceUnavailable, Code: "stopping", Message: "the server is stopping (send it again when it is back)", RetryAfter: 5}
			}
			if route.Handle != nil {
				return route.Handle(w, r)
			}
			return s.command(route, w, r)
		})
	}
	s.handle("GET /v1/openapi.json", func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Type", typeJSON)
		_, err := w.Write(document)
		return sent{err}.orNil()
	})
	s.handle("GET /healthz", func(w http.ResponseWriter, r *http.Request) error { return say(w, "ok\n") })
	s.handle("GET /readyz", func(w http.ResponseWriter, r *http.Request) error {
		if s.stopping.Load() {
			return &Fault{Status: http.StatusServiceUnavailable, Code: "stopping", Message: "the server is stopping", RetryAfter: 5}
		}
		return say(w, "ready\n")
	})
	exposition := s.metrics.handler()
	s.handle("GET /metrics", func(w http.ResponseWriter, r *http.Request) error {
		exposition.ServeHTTP(w, r)
		return nil
	})
	s.pages()
	s.handle("/", func(w http.ResponseWriter, r *http.Request) error {
		return fault(http.StatusNotFound, "no_such_route", "there is no %.10s %.80s here (GET /v1/openapi.json names all routes)", r.Method, r.URL.Path)
	})
	return nil
}

func say(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", typeText+"; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, err := io.WriteString(w, text)
	return sent{err}.orNil()
}

// handle registers a handler that may fail.
func (s *Server) handle(pattern string, work func(http.ResponseWriter, *http.Request) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		seen := w.(*seen)
		seen.route = r.Pattern
		err := work(w, r)
		var late sent
		switch {
		case err == nil:
		case errors.As(err, &late), seen.status != 0:
			seen.failed = err
		default:
			seen.failed = err
			f := s.faultOf(r, err)
			if f.Status == http.StatusRequestTimeout {
				w.Header().Set("Connection", "close")
				refuse(w, f)
				return
			}
			linger(w, r, func() { refuse(w, f) })
		}
	})
}

// ServeHTTP guards, counts, logs and recovers around the routes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	id := requestID()
	h := w.Header()
	h.Set("Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	watched := &seen{ResponseWriter: w, route: "none"}
	s.metrics.active.Inc()
	s.active.Add(1)
	counted := &counting{ReadCloser: r.Body}
	r.Body = counted
	defer func() {
		s.active.Add(-1)
		s.metrics.active.Dec()
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.metrics.panics.Inc()
			s.o.Log.Error("panic", "id", id, "route", watched.route, "what", fmt.Sprint(p), "stack", string(debug.Stack()))
			if watched.status == 0 {
				refuse(watched, fault(http.StatusInternalServerError, "internal", "internal error in request %s (this is a bug of membank; its log says more)", id))
			}
		}
		took := time.Since(start)
		s.metrics.observe(watched.route, max(watched.status, 0), took)
		s.metrics.received.Add(float64(counted.n))
		s.metrics.answered.Add(float64(watched.n))
		attributes := []any{"id", id, "method", r.Method, "route", watched.route, "bank", r.PathValue("bank"), "status", watched.status,
			"received", counted.n, "sent", watched.n, "seconds", took.Seconds(), "client", r.RemoteAddr}
		if watched.failed != nil && watched.status >= 500 {
			attributes = append(attributes, "error", watched.failed.Error())
		}
		s.o.Log.Info("request", attributes...)
	}()
	if f := s.guard.check(r); f != nil {
		if f.Status == http.StatusUnauthorized {
			h["Www-Authenticate"] = []string{"Bearer", `Basic realm="membank: any name, the token as password"`}
		}
		refuse(watched, f)
		return
	}
	s.mux.ServeHTTP(watched, r)
}

func requestID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// seen remembers what was answered.
type seen struct {
	http.ResponseWriter
	route  string
	status int
	n      int64
	failed error
}

func (s *seen) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *seen) Write(p []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	n, err := s.ResponseWriter.Write(p)
	s.n += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController through.
func (s *seen) Unwrap() http.ResponseWriter { return s.ResponseWriter }

type counting struct {
	io.ReadCloser
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}

// Serve answers requests from l until ctx is done, and then stops in order:
// /readyz and new work get 503, what is under way has twenty seconds, and what
// is not done by then is cancelled and has changed nothing. It returns when no
// handler runs any more, so the caller may close the database.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: s.headers, IdleTimeout: idleTime, MaxHeaderBytes: headerBytes,
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
		Protocols:   new(http.Protocols),
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: 64, MaxReceiveBufferPerConnection: 4 << 20, MaxReceiveBufferPerStream: 1 << 20, SendPingTimeout: 30 * time.Second},
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(newCrowd(l, connections)) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	if s.o.Stopping != nil {
		s.o.Stopping()
	}
	s.o.Log.Info("stopping", "active", s.active.Load())
	idle := s.awaitIdle(s.o.StopTime)
	cancel(errStopping)
	if !idle && !s.awaitIdle(abandonTime) {
		server.Close()
		return fmt.Errorf("%d requests did not end when they were cancelled", s.active.Load())
	}
	last, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	if err := server.Shutdown(last); err != nil {
		server.Close()
	}
	<-ended
	return nil
}

// awaitIdle waits until no handler runs.
func (s *Server) awaitIdle(most time.Duration) bool {
	for end := time.Now().Add(most); ; time.Sleep(10 * time.Millisecond) {
		if s.active.Load() == 0 {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// crowd lets so many connections be open at once; more wait to be accepted.
type crowd struct {
	net.Listener
	room chan struct{}
}

func newCrowd(l net.Listener, most int) *crowd {
	return &crowd{l, make(chan struct{}, most)}
}

func (c *crowd) Accept() (net.Conn, error) {
	c.room <- struct{}{}
	conn, err := c.Listener.Accept()
	if err != nil {
		<-c.room
		return nil, err
	}
	return &guest{Conn: conn, leave: func() { <-c.room }}, nil
}

type guest struct {
	net.Conn
	left  atomic.Bool
	leave func()
}

func (g *guest) Close() error {
	if g.left.CompareAndSwap(false, true) {
		defer g.leave()
	}
	return g.Conn.Close()
}
