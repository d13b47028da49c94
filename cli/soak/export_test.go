package soak

import (
	"context"
	"net/http"
)

// Lying puts a transport between the clients and the server.
func (o Options) Lying(through func(http.RoundTripper) http.RoundTripper) Options {
	o.through = through
	return o
}

// ReadArrays and Archive are what clients read and send.
func ReadArrays(text []byte) (ints map[string][]int64, vectors []float32, dim int, err error) {
	a, err := readArrays(context.Background(), text)
	if err != nil {
		return nil, nil, 0, err
	}
	m := a.rows["vectors"]
	return a.ints, m.Data, m.Dim, nil
}

var Archive = archive
