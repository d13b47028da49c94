package cli

import (
	"bytes"
	"testing"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"512MB": 512e6, "512MiB": 512 << 20, "2g": 2 << 30, "2G": 2 << 30, "1.5 GiB": 3 << 29, "64m": 64 << 20,
		"1024": 1024, "7B": 7, "1kb": 1000, "1k": 1024, "1TB": 1e12, "0": 0,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MB", "-1g", "12 parsecs", "1e300", "NaN", "Inf", "9999999999g", "1..2g"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1000): "1,000", count(1281167): "1,281,167", count(-1234): "-1,234",
		size(0): "0 B", size(1023): "1023 B", size(1024): "1 KiB", size(1536): "1.5 KiB", size(6 << 30): "6 GiB", size(614400000): "585.9 MiB",
		plural(1, "row"): "1 row", plural(2000, "row"): "2,000 rows",
		seconds(0.0312): "0.031 s", seconds(12.34): "12.3 s", seconds(200): "3 min 20 s",
		percent(0.766): "76.60", percent(1): "100.00",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTableIsAlignedAndPlain(t *testing.T) {
	var b bytes.Buffer
	printTable(&b, []column{left("bank"), number("rows")}, [][]string{{"a/b", "1"}, {"long/name", "1,000"}})
	want := "bank        rows\na/b            1\nlong/name  1,000\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
