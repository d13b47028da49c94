//go:build !linux

package cli

import (
	"errors"
	"syscall"
)

func nobody() *syscall.SysProcAttr { return nil }

func mountMemory(string, int) error { return errors.New("only on Linux") }

func unmount(string) error { return nil }

// usedBytes cannot tell holes from bytes here; TestInterrupt then interrupts early.
func usedBytes(string) int64 { return 1 << 62 }
