package store

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// DataEnd returns an offset below size behind which f is a hole, so that the
// hundreds of megabytes of a live log need not be read to be known as zeros.
func DataEnd(f *os.File, size int64) int64 {
	const seekData, seekHole = 3, 4
	defer f.Seek(0, io.SeekStart)
	end := int64(0)
	for end < size {
		data, err := f.Seek(end, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return end // nothing but a hole from here on
		}
		if err != nil {
			return size // a file system that cannot tell
		}
		hole, err := f.Seek(data, seekHole)
		if err != nil || hole <= end {
			return size
		}
		end = hole
	}
	return size
}
