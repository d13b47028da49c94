package peers

import (
	"context"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed python/driver.py
var pythonDriver []byte

// python finds an interpreter that has NumPy and the module.
func (f finder) python(ctx context.Context, peer, module string) ([]launch, error) {
	interpreters := []string{"python3", "/usr/bin/python3", "python"}
	if own := os.Getenv("MEMBANK_PYTHON"); own != "" {
		interpreters = []string{own}
	}
	for _, python := range interpreters {
		if exec.CommandContext(ctx, python, "-c", "import numpy, "+module).Run() != nil {
			continue
		}
		dir, err := f.built("python", pythonDriver, func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "driver.py"), pythonDriver, 0o644)
		})
		if err != nil {
			return nil, err
		}
		driver := []string{python, filepath.Join(dir, "driver.py")}
		if module == "faiss" {
			return f.faissLaunches(peer, driver), nil
		}
		return []launch{{peer: peer, command: driver, env: f.blasEnv(), index: module, exact: true,
			tunings: [][]setting{{{"chunk", 32}}, {{"chunk", 256}}}}}, nil
	}
	return nil, &absent{"no Python that imports numpy and " + module,
		map[string]string{"faiss": "apt install python3-faiss, or pip install faiss-cpu", "numpy": "apt install python3-numpy, or pip install numpy",
			"torch": "pip install torch"}[module] + "; MEMBANK_PYTHON names another interpreter"}
}
