package peers

import (
	"context"
	_ "embed"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"membank/simd"
)

//go:embed faiss/driver.cpp
var faissDriver []byte

// faiss finds a driver that was built already, or the library to build one with.
func (f finder) faiss(ctx context.Context) ([]launch, error) {
	if driver := os.Getenv("MEMBANK_FAISS_DRIVER"); driver != "" {
		if _, err := exec.LookPath(driver); err != nil {
			return nil, &absent{"MEMBANK_FAISS_DRIVER: " + err.Error(), "let it name a driver built from bench/peers/faiss/driver.cpp"}
		}
		return f.faissLaunches("faiss", []string{driver}), nil
	}
	roots := []string{"/usr", "/usr/local"}
	if root := os.Getenv("MEMBANK_FAISS_ROOT"); root != "" {
		roots = []string{root}
	}
	for _, root := range roots {
		include, library := f.faissLibrary(root)
		if library == "" {
			continue
		}
		driver, err := f.buildFAISS(ctx, include, library)
		if err != nil {
			return nil, &absent{"its driver does not compile: " + err.Error(), "needs g++, OpenMP and OpenBLAS (libopenblas-dev)"}
		}
		return f.faissLaunches("faiss", []string{driver}), nil
	}
	return nil, &absent{"no headers and library in " + filepath.Join(roots[0], "include"),
		"MEMBANK_FAISS_ROOT=DIR of a FAISS built from source or from libfaiss-dev, or MEMBANK_FAISS_DRIVER=PROGRAM"}
}

// faissLibrary is the include directory under root and the library that is best for
// this CPU and Level; "" if there is none.
func (f finder) faissLibrary(root string) (include, library string) {
	for _, dir := range []string{filepath.Join(root, "include"), root} {
		if _, err := os.Stat(filepath.Join(dir, "faiss", "Index.h")); err == nil {
			include = dir
			break
		}
	}
	if include == "" {
		return "", ""
	}
	for _, name := range f.faissNames() {
		for _, dir := range []string{"lib", "lib64", "lib/*-linux-gnu", "build/faiss", "faiss", "."} {
			for _, end := range []string{".a", ".so"} {
				found, _ := filepath.Glob(filepath.Join(root, dir, "lib"+name+end))
				if len(found) > 0 {
					return include, found[0]
				}
			}
		}
	}
	return "", ""
}

// faissNames are FAISS's libraries that this CPU runs, the fastest first.
func (f finder) faissNames() []string {
	for _, level := range simd.Levels() {
		switch {
		case f.Level != "" && level != f.Level:
		case level == simd.AVX512:
			return []string{"faiss_avx512", "faiss_avx2", "faiss"}
		case level == simd.AVX2:
			return []string{"faiss_avx2", "faiss"}
		}
	}
	return []string{"faiss"}
}

func (f finder) buildFAISS(ctx context.Context, include, library string) (string, error) {
	library, err := filepath.Abs(library)
	if err != nil {
		return "", err
	}
	file, err := os.Stat(library)
	if err != nil {
		return "", err
	}
	include, err = filepath.Abs(include)
	if err != nil {
		return "", err
	}
	key := append([]byte(include+"\n"+library+"\n"+file.ModTime().String()+"\n"), faissDriver...)
	dir, err := f.built("faiss", key, func(dir string) error {
		source := filepath.Join(dir, "driver.cpp")
		if err := os.WriteFile(source, faissDriver, 0o644); err != nil {
			return err
		}
		args := []string{"-O2", "-march=native", "-fopenmp", "-I" + include, source, library, "-o", filepath.Join(dir, "driver")}
		if filepath.Ext(library) == ".a" {
			args = append(args, "-lopenblas")
		} else {
			args = append(args, "-Wl,-rpath,"+filepath.Dir(library))
		}
		return command(ctx, dir, nil, "g++", args...)
	})
	return filepath.Join(dir, "driver"), err
}

// faissLaunches are the indexes of FAISS that are compared. How its threads and those
// of its BLAS share the cores decides the rate of Flat.
func (f finder) faissLaunches(peer string, driver []string) []launch {
	flat := launch{peer: peer, command: driver, env: f.blasEnv(), index: "Flat", exact: true}
	if f.Threads > 1 {
		for _, share := range [][2]int{{1, f.Threads}, {f.Threads, 1}, {f.Threads, f.Threads}} {
			flat.tunings = append(flat.tunings, []setting{{"openmp", share[0]}, {"blas", share[1]}})
		}
	}
	all := []launch{flat}
	if f.Lists > 0 {
		own := [][]setting{{{"openmp", f.Threads}, {"blas", 1}}}
		ivf := "IVF" + strconv.Itoa(f.Lists) + ","
		for _, index := range []string{ivf + "Flat", ivf + "SQ8", ivf + "RaBitQ,RFlat"} {
			all = append(all, launch{peer: peer, command: driver, env: f.blasEnv(), index: index,
				tunings: own, settings: powers("nprobe", 4, max(4, f.Lists/2))})
		}
	}
	if f.Graphs && f.Lists > 0 {
		return append(all, launch{peer: peer, command: driver, env: f.blasEnv(), index: "HNSW32",
			tunings: [][]setting{{{"openmp", f.Threads}, {"blas", 1}}}, settings: powers("efSearch", 16, 512)})
	}
	if f.Graphs {
		own := [][]setting{{{"openmp", f.Threads}, {"blas", 1}}}
		lists := max(1, int(4*math.Sqrt(float64(f.Rows)))) // FAISS's guidelines: 4 to 16 times the root
		all = append(all,
			launch{peer: peer, command: driver, env: f.blasEnv(), index: "IVF" + strconv.Itoa(lists) + ",Flat",
				tunings: own, settings: powers("nprobe", 8, 128)},
			launch{peer: peer, command: driver, env: f.blasEnv(), index: "HNSW32",
				tunings: own, settings: powers("efSearch", 32, 512)})
	}
	return all
}
