//go:build faultorder

package store

// See fault_off.go.
const (
	faultNoChecksum = false
	faultNoSync     = false
	faultOrder      = true
)
