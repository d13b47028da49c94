package serve

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what /metrics tells, in a registry of the server's own. Labels are
// the routes' patterns, so their number is fixed whatever clients ask for.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	active   prometheus.Gauge
	received prometheus.Counter
	answered prometheus.Counter
	shed     prometheus.Counter
	panics   prometheus.Counter
}

func newMetrics(gauges map[string]Gauge) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "membank_requests_total", Help: "Requests answered, by route and status."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "membank_request_seconds", Help: "Time from a request's headers to its answer's last byte.",
			Buckets: []float64{.0005, .001, .002, .003, .005, .01, .03, .1, .3, 1, 3, 10, 30, 100, 300}}, []string{"route"}),
		active:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "membank_requests_active", Help: "Requests being worked on."}),
		received: prometheus.NewCounter(prometheus.CounterOpts{Name: "membank_received_bytes_total", Help: "Bytes of bodies received."}),
		answered: prometheus.NewCounter(prometheus.CounterOpts{Name: "membank_sent_bytes_total", Help: "Bytes of bodies sent."}),
		shed:     prometheus.NewCounter(prometheus.CounterOpts{Name: "membank_requests_shed_total", Help: "Requests sent away because the server was busy."}),
		panics:   prometheus.NewCounter(prometheus.CounterOpts{Name: "membank_panics_total", Help: "Requests that met a bug."}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.active, m.received, m.answered, m.shed, m.panics,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for name, g := range gauges {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: g.Help}, g.Value))
	}
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *metrics) observe(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}
