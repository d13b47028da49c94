package store

import (
	"fmt"
	"math"
	"regexp"
	"time"
)

// NoLabel is the label of a row that has none. Such a row never votes.
const NoLabel = math.MinInt64

// MaxDim is the largest dimension of a bank.
const MaxDim = 65536

// DType is how the elements of a bank are kept.
type DType uint8

const (
	F32 DType = iota // IEEE single precision: what goes in comes out, bit for bit
	F16              // IEEE half precision, rounded to nearest even on the way in
)

func (t DType) String() string {
	switch t {
	case F32:
		return "f32"
	case F16:
		return "f16"
	}
	return fmt.Sprintf("dtype(%d)", uint8(t))
}

// size is the bytes of one element.
func (t DType) size() int {
	if t == F16 {
		return 2
	}
	return 4
}

// Info describes one generation of a bank.
type Info struct {
	Bank        string
	Rows        int64 // live rows
	Next        int64 // one past the highest row number; Next-Rows rows are deleted
	Dim         int
	DType       DType
	Classes     int   // distinct labels of live rows
	Lists       int   // that rows are grouped by (see DB.Group); 0: a flat bank
	Lanes       int64 // places that blocks have for rows, those of deleted and overwritten rows included
	Delta       int64 // of these, lanes written since the last Group or Fold
	Bytes       int64 // of the records that this generation names
	Generation  uint64
	ZeroVectors int64        // rows ever written whose norm is 0
	Attributes  []string     // names, sorted
	ClassNames  []string     // name of label i; nil when labels are plain numbers
	Sources     []Provenance // one a write that brought rows, oldest first, at most 64
	Created     time.Time
}

// Source is the provenance of the newest write that brought rows.
func (i Info) Source() Provenance {
	if len(i.Sources) == 0 {
		return Provenance{}
	}
	return i.Sources[len(i.Sources)-1]
}

// Provenance says where rows came from.
type Provenance struct {
	Command string       `json:"command,omitempty"`
	Files   []SourceFile `json:"files,omitempty"`
	Time    time.Time    `json:"time"`
	Seconds float64      `json:"seconds,omitempty"`
}

// SourceFile is one file of a Provenance.
type SourceFile struct {
	Name     string `json:"name"`
	Bytes    int64  `json:"bytes"`
	Checksum string `json:"checksum,omitempty"` // "sha256:…" or "crc32c:…"
}

var bankName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)

// CheckName returns an ErrBadName unless name is one that a bank may have:
// parts of letters, digits, '.', '_' and '-', each beginning with a letter or
// digit, joined by '/', at most 255 bytes.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: a bank name is empty", ErrBadName)
	case len(name) > 255:
		return fmt.Errorf("%w: bank name %.40q… has %d bytes, at most 255 are allowed", ErrBadName, name, len(name))
	case !bankName.MatchString(name):
		return fmt.Errorf("%w: bank %q: parts of letters, digits, '.', '_', '-', each beginning with a letter or digit, joined by '/'", ErrBadName, name)
	}
	return nil
}
