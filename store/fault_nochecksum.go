//go:build faultnochecksum

package store

// See fault_off.go.
const (
	faultNoChecksum = true
	faultNoSync     = false
	faultOrder      = false
)
