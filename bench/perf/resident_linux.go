package perf

import (
	"os"
	"strconv"
	"strings"
)

// resident reads /proc/self/status.
func resident() residency {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return residency{}
	}
	r := residency{known: true}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "RssAnon", "RssShmem":
			r.anonymous += kilobytes << 10
		case "RssFile":
			r.mapped = kilobytes << 10
		}
	}
	return r
}
