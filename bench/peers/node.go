package peers

import (
	"context"
	_ "embed"
	"os"
	"path/filepath"
	"slices"
)

//go:embed usearch/package.json
var usearchPackage []byte

//go:embed usearch/driver.js
var usearchDriver []byte

// usearch installs USearch's npm package, which carries its library, into the cache.
// No script of a package is run.
func (f finder) usearch(ctx context.Context) ([]launch, error) {
	dir, err := f.built("usearch", slices.Concat(usearchPackage, usearchDriver), func(dir string) error {
		for name, text := range map[string][]byte{"package.json": usearchPackage, "driver.js": usearchDriver} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				return err
			}
		}
		args := []string{"install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"}
		if f.Offline {
			args = append(args, "--offline")
		}
		return command(ctx, dir, nil, "npm", args...)
	})
	if err != nil {
		return nil, &absent{err.Error(), "needs node and npm, and once its registry"}
	}
	driver := []string{"node", filepath.Join(dir, "driver.js")}
	all := []launch{{peer: "usearch", command: driver, index: "exact", exact: true}}
	if f.Graphs {
		all = append(all, launch{peer: "usearch", command: driver, index: "HNSW", settings: powers("expansion_search", 32, 512)})
	}
	return all, nil
}
