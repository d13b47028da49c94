//go:build !linux

package torture

import "errors"

var errLinux = errors.New("only on Linux")

func mountMemory(dir string, megabytes int) (unmount func() error, err error) { return nil, errLinux }

func makeImage(path string, megabytes int64) error { return errLinux }

func mountImage(image, dir string) (unmount func() error, err error) { return nil, errLinux }

func stop(pid int) error { return errLinux }
