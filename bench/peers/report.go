package peers

import "time"

// Report is what Run found.
type Report struct {
	Time    time.Time   `json:"time"`
	CPU     string      `json:"cpu"`
	Threads int         `json:"threads"`
	Level   string      `json:"level"` // membank's SIMD level
	Sets    []SetReport `json:"sets"`
	Missing []Missing   `json:"missing"`
}

// Missing is a peer or set that had no turn, or a peer that dropped out.
type Missing struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
	Remedy string `json:"remedy,omitempty"` // how to provide it
}

// SetReport is everything about one set of rows.
type SetReport struct {
	Set     string `json:"set"`
	Note    string `json:"note"`
	Rows    int64  `json:"rows"`
	Dim     int    `json:"dim"`
	Queries int    `json:"queries"`
	// PeakBest and PeakMedian are the FMA peak that the machine had to give in the
	// rounds, GFLOP/s: far apart, other programs had a share of it.
	PeakBest   float64  `json:"peak_best"`
	PeakMedian float64  `json:"peak_median"`
	Indexes    []Index  `json:"indexes"`
	Results    []Result `json:"results"`
	// Different counts queries that one of membank's paths answered with other ids
	// or scores than the plainest one, in a batch or alone. It must be 0.
	Different int `json:"different"`
}

// Index is what a contender built.
type Index struct {
	Name    string  `json:"name"`
	Version string  `json:"version"`
	Level   string  `json:"level"` // SIMD, in the library's own words
	Index   string  `json:"index"`
	Exact   bool    `json:"exact"`
	Build   float64 `json:"build_seconds"` // until it can be asked; membank's is durable on disk
}

// Result is what one contender did in one mode with one k.
type Result struct {
	Mode     string `json:"mode"` // Batch or Single
	K        int    `json:"k"`
	Name     string `json:"name"`
	Index    string `json:"index"`
	Settings string `json:"settings,omitempty"`
	Ours     bool   `json:"ours"`
	Exact    bool   `json:"exact"`
	Queries  int    `json:"queries"` // asked in each turn
	Rounds   int    `json:"rounds"`  // in which it had a turn
	// Best and Median of the rounds, in queries a second; GFLOPS is the best one as
	// 2·Q·N·D a second, done or saved.
	Best   float64 `json:"best"`
	Median float64 `json:"median"`
	GFLOPS float64 `json:"gflops"`
	// Recall against float64, over the first RecallQueries of a batch.
	Recall        *float64 `json:"recall,omitempty"`
	RecallQueries int      `json:"recall_queries,omitempty"`
	// MeanMS is the mean of the best round's calls, MedianMS the median of all calls.
	MeanMS   float64 `json:"mean_ms,omitempty"`
	MedianMS float64 `json:"median_ms,omitempty"`
	// Ratio is how many times faster membank's fastest path is, by the best rounds;
	// RatioMedian the median of that over turns of the same round.
	Ratio       float64 `json:"ratio"`
	RatioMedian float64 `json:"ratio_median"`
}
