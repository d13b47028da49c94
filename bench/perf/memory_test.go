package perf

import (
	"context"
	"os"
	"testing"
)

// Sizes are small: that everything is measured and nothing is left behind.
func TestMemoryMeasuresEveryFigure(t *testing.T) {
	dir := t.TempDir()
	figures, err := Memory(context.Background(), MemoryOptions{Dir: dir, Rows: 2000, Dim: 16, Batch: 8, Negatives: 32, Queue: 64, Steps: 12})
	if err != nil {
		t.Fatal(err)
	}
	if len(figures) != 7 && len(figures) != 13 { // without and with NumPy
		t.Errorf("%d figures: %v", len(figures), figures)
	}
	for _, f := range figures {
		if !(f.Value > 0) && f.Name != "memory at the most, by the vectors of both" {
			t.Errorf("%s is %v", f.Name, f.Value)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
