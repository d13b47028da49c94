//go:build !faultnochecksum && !faultnosync && !faultorder

package store

// Faults are mistakes built in on purpose, by a build tag each, to prove that
// bench/torture finds them. None is in a program built without the tag.
const (
	faultNoChecksum = false // checksums of records are not compared
	faultNoSync     = false // nothing is synced
	faultOrder      = false // the outside record is written before the commit it records
)
