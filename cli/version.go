package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"membank/simd"

	ucli "github.com/urfave/cli/v2"
)

// version is the module's, or the revision it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "devel", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			revision = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	return revision + dirty
}

func versionCommand() *ucli.Command {
	return &ucli.Command{
		Name: "version", Usage: "say which membank this is",
		Description: "  membank version --json",
		Action: action(nil, func(_ context.Context, s *session, _ *ucli.Context, _ []string) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
				SIMD    string `json:"simd"`
			}{version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, string(simd.Active())}
			return s.emit(v, func(w io.Writer) {
				fmt.Fprintf(w, "membank %s, %s, %s/%s, %s kernels\n", v.Version, v.Go, v.OS, v.Arch, v.SIMD)
			})
		}),
	}
}
