//go:build faultnosync

package store

// See fault_off.go.
const (
	faultNoChecksum = false
	faultNoSync     = true
	faultOrder      = false
)
