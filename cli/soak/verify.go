package soak

import (
	"context"
	"os/exec"
	"strings"
)

// verify runs membank verify on a database that no server holds.
func (r *run) verify(ctx context.Context, scenario, dir string) error {
	args := append(r.o.Program[1:len(r.o.Program):len(r.o.Program)], "verify", "--quiet", "--db", dir)
	out, err := exec.CommandContext(ctx, r.o.Program[0], args...).CombinedOutput()
	if err != nil && ctx.Err() == nil {
		r.fault(scenario, "membank verify: %v: %s", err, strings.TrimSpace(string(out)))
	}
	return ctx.Err()
}
