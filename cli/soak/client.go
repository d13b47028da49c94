package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"membank/simd"
	"membank/store/dump"
)

// hang is how long a request may take that takes milliseconds.
const hang = 90 * time.Second

// client is one rank: a connection of its own to the server.
type client struct {
	http    *http.Client
	url     string
	refused *atomic.Int64 // answers 429 and 503, which are asked again
}

func (r *run) newClient(url string) *client {
	var transport http.RoundTripper = &http.Transport{MaxIdleConnsPerHost: 1}
	if r.o.through != nil {
		transport = r.o.through(transport)
	}
	return &client{http: &http.Client{Transport: transport, Timeout: hang}, url: url, refused: &r.refused}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// answer is what the server said: JSON, or arrays and JSON beside them.
type answer struct {
	summary []byte
	ints    map[string][]int64
	rows    map[string]simd.Matrix
}

// errRefused is an answer that no membank of health gives: the request was right.
var errRefused = errors.New("a request that was right got an error")

// ask sends a request until it is let in.
func (c *client) ask(ctx context.Context, method, path string, body []byte) (*answer, error) {
	for {
		a, wait, err := c.once(ctx, method, path, body)
		if err != nil || wait == 0 {
			return a, err
		}
		c.refused.Add(1)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *client) once(ctx context.Context, method, path string, body []byte) (a *answer, wait time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/x-npz")
	}
	got, err := c.http.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		return nil, 0, err
	}
	switch seconds, _ := strconv.Atoi(got.Header.Get("Retry-After")); {
	case got.StatusCode == http.StatusOK:
	case (got.StatusCode == http.StatusTooManyRequests || got.StatusCode == http.StatusServiceUnavailable) && seconds > 0:
		return nil, time.Duration(seconds) * time.Second, nil
	default:
		return nil, 0, fmt.Errorf("%w: %s %s: %d %s", errRefused, method, path, got.StatusCode, strings.TrimSpace(string(text)))
	}
	a = &answer{summary: text}
	if got.Header.Get("Content-Type") == "application/x-npz" {
		if a, err = readArrays(ctx, text); err != nil {
			return nil, 0, fmt.Errorf("%w: %s %s: %w", errRefused, method, path, err)
		}
		summary, err := url.PathUnescape(got.Header.Get("Membank-Summary"))
		if err != nil {
			return nil, 0, err
		}
		a.summary = []byte(summary)
	}
	return a, 0, nil
}

// readArrays reads an .npz of integers and of rows of floats.
func readArrays(ctx context.Context, text []byte) (*answer, error) {
	s, err := dump.NewStream("answer", bytes.NewReader(text), dump.StreamOptions{})
	if err != nil {
		return nil, err
	}
	a := &answer{ints: map[string][]int64{}, rows: map[string]simd.Matrix{}}
	for {
		x, err := s.Next()
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			return nil, err
		}
		if x.Kind() == 'i' {
			a.ints[x.Member()], err = x.AllInts(dump.NoLabel)
		} else {
			a.rows[x.Member()], err = readRows(ctx, x)
		}
		if err != nil {
			return nil, err
		}
	}
}

func readRows(ctx context.Context, x *dump.Array) (simd.Matrix, error) {
	r, err := x.Embeddings()
	if err != nil {
		return simd.Matrix{}, err
	}
	m := simd.NewMatrix(int(r.Rows()), r.Dim())
	for at := 0; at < m.Rows; {
		n, err := r.Next(ctx, m.Slice(at, m.Rows))
		if err != nil {
			return simd.Matrix{}, err
		}
		at += n
	}
	return m, nil
}

// archive is an .npz of lists of integers and of rows: name, list, name, list.
func archive(dim int, pairs ...any) ([]byte, error) {
	var b bytes.Buffer
	z := dump.NewNPZWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		var err error
		switch list := pairs[i+1].(type) {
		case []float32:
			err = z.Write(pairs[i].(string), list, int64(len(list)/dim), int64(dim))
		default:
			err = z.Write(pairs[i].(string), list)
		}
		if err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}

// written is what an update or a push says of itself.
type written struct {
	Rows, Step int64
}

// update writes a step's rows into slots; with gather it returns what those slots
// held before.
func (c *client) update(ctx context.Context, bank string, step int64, ids []int64, vectors []float32, keepOld string, gather []int64) (*answer, error) {
	pairs, flags := []any{"ids", ids, "vectors", vectors}, ""
	if gather != nil {
		pairs, flags = append(pairs, "gather", gather), "&output=before.npz"
	}
	body, err := archive(len(vectors)/len(ids), pairs...)
	if err != nil {
		return nil, err
	}
	a, err := c.ask(ctx, "POST", fmt.Sprintf("/v1/memory/%s/update?renorm=none&keep-old=%s&durability=%s&step=%d%s", url.PathEscape(bank), keepOld, durabilityOf(step), step, flags), body)
	if err != nil {
		return nil, err
	}
	return a, a.wrote(step, len(slices.Compact(slices.Sorted(slices.Values(ids)))))
}

// push writes a step's rows into a queue.
func (c *client) push(ctx context.Context, bank string, step int64, vectors []float32, labels []int64) error {
	body, err := archive(queueDim, "labels", labels, "vectors", vectors)
	if err != nil {
		return err
	}
	a, err := c.ask(ctx, "POST", fmt.Sprintf("/v1/memory/%s/push?durability=%s&step=%d", url.PathEscape(bank), durabilityOf(step), step), body)
	if err != nil {
		return err
	}
	return a.wrote(step, len(labels))
}

// wrote compares what an update says of itself with what was sent; distinct is the
// number of different ids.
func (a *answer) wrote(step int64, distinct int) error {
	var w written
	if err := json.Unmarshal(a.summary, &w); err != nil {
		return fmt.Errorf("%w: an update answers %q: %w", errRefused, a.summary, err)
	}
	if w.Step != step || w.Rows != int64(distinct) {
		return fmt.Errorf("%w: an update of %d rows at step %d says that it wrote %d at step %d", errRefused, distinct, step, w.Rows, w.Step)
	}
	return nil
}

// contents reads a bank whole.
func (c *client) contents(ctx context.Context, bank, flags string) (*answer, error) {
	a, err := c.ask(ctx, "POST", fmt.Sprintf("/v1/memory/%s/get?output=rows.npz%s", url.PathEscape(bank), flags), nil)
	if err != nil {
		return nil, err
	}
	if n := len(a.ints["ids"]); a.rows["rows"].Rows != n || len(a.ints["step"]) != n {
		return nil, fmt.Errorf("%w: get of %s gives %d ids, %d versions and %d rows", errRefused, bank, n, len(a.ints["step"]), a.rows["rows"].Rows)
	}
	return a, nil
}

// info is what bank show says.
type info struct {
	Updates, Pushed, Step int64
}

func (c *client) show(ctx context.Context, bank string) (i info, err error) {
	a, err := c.ask(ctx, "GET", "/v1/memory/"+url.PathEscape(bank), nil)
	if err == nil {
		err = json.Unmarshal(a.summary, &i)
	}
	return i, err
}
