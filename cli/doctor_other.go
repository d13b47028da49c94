//go:build !linux

package cli

// Elsewhere than on Linux doctor leaves these to the system's own tools.

func (d *diagnosis) checkDisk(string)     {}
func (d *diagnosis) checkMemory(*session) {}
func (d *diagnosis) checkLimits()         {}
