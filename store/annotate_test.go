package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// attributesOf reads all attributes of a bank, by name and row number.
func attributesOf(t *testing.T, db *DB, bank string) map[string][]Value {
	t.Helper()
	s := snapshot(t, db, bank)
	defer s.Close()
	got := map[string][]Value{}
	names := s.Info().Attributes
	for _, name := range names {
		got[name] = make([]Value, s.Info().Next)
	}
	r := s.NewReader()
	for i := range s.Blocks() {
		err := r.Columns(i, func(c *Columns) error {
			for lane, row := range c.Row {
				for _, name := range names {
					got[name][row] = c.Attribute(name, lane)
				}
			}
			return nil
		}, names...)
		if err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func equalAttributes(t *testing.T, db *DB, bank string, want map[string][]Value) {
	t.Helper()
	got := attributesOf(t, db, bank)
	if len(got) != len(want) {
		t.Fatalf("%d attributes, want %d", len(got), len(want))
	}
	for name, values := range want {
		if !slices.Equal(got[name], values) {
			t.Errorf("attribute %q differs", name)
		}
	}
}

func TestSetAttributes(t *testing.T) {
	ctx := context.Background()
	const rows, dim = 700, 4096 // a full block has 256 rows
	db := create(t)
	r := Rows{Vectors: gaussian(rows, dim, 3), Keys: make([]string, rows)}
	split := make([]Value, rows)
	for i := range rows {
		r.Keys[i] = fmt.Sprintf("image %d", i)
		split[i] = Text(fmt.Sprintf("split %d", i%3))
	}
	r.Attributes = []Attribute{{"split", split}}
	write(t, db, "train", r, WriterOptions{})
	before := snapshot(t, db, "train")

	cluster, rare := make([]Value, rows), make([]Value, rows)
	for i := range rows {
		cluster[i] = Int(int64(i * 7 % 13))
	}
	rare[600] = Float(0.5)
	info, err := db.SetAttributes(ctx, "train", []Attribute{{"cluster", cluster}, {"rare", rare}})
	if err != nil || info.Generation != 2 || !slices.Equal(info.Attributes, []string{"cluster", "rare", "split"}) {
		t.Fatalf("%+v, %v", info, err)
	}
	equalAttributes(t, db, "train", map[string][]Value{"cluster": cluster, "rare": rare, "split": split})
	if !slices.Equal(before.Info().Attributes, []string{"split"}) {
		t.Error("a snapshot changed")
	}

	// Replacing one and removing another leaves the third alone.
	for i := range rows {
		cluster[i] = Int(int64(i))
	}
	if _, err := db.SetAttributes(ctx, "train", []Attribute{{"split", make([]Value, rows)}, {"cluster", cluster}}); err != nil {
		t.Fatal(err)
	}
	equalAttributes(t, db, "train", map[string][]Value{"cluster": cluster, "rare": rare})
	got := all(t, db, "train")
	if !slices.Equal(got.Vectors.Data, r.Vectors.Data) || !slices.Equal(got.Keys, r.Keys) {
		t.Error("vectors or keys changed")
	}

	// An append keeps them; its own rows are null.
	write(t, db, "train", Rows{Vectors: gaussian(5, dim, 4), Keys: []string{"a", "b", "c", "d", "e"}}, WriterOptions{Mode: Append})
	equalAttributes(t, db, "train", map[string][]Value{"cluster": append(cluster, make([]Value, 5)...), "rare": append(rare, make([]Value, 5)...)})
}

func TestSetAttributesRefuses(t *testing.T) {
	ctx := context.Background()
	db := create(t)
	write(t, db, "train", Rows{Vectors: gaussian(3, 4, 1)}, WriterOptions{})
	three := []Value{Int(1), Int(2), Int(3)}
	cases := []struct {
		name       string
		bank       string
		attributes []Attribute
		want       error
	}{
		{"no bank", "test", []Attribute{{"a", three}}, ErrNoBank},
		{"too few", "train", []Attribute{{"a", three[:2]}}, ErrBadRow},
		{"too many", "train", []Attribute{{"a", append(three, Int(4))}}, ErrBadRow},
		{"no name", "train", []Attribute{{"", three}}, ErrBadName},
		{"twice", "train", []Attribute{{"a", three}, {"a", three}}, ErrBadName},
		{"not UTF-8", "train", []Attribute{{"a", []Value{Int(1), Int(2), Text("\xff")}}}, ErrBadRow},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := db.SetAttributes(ctx, c.bank, c.attributes); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := db.SetAttributes(cancelled, "train", []Attribute{{"a", three}}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if info := write(t, db, "other", Rows{Vectors: gaussian(1, 1, 1)}, WriterOptions{}); info.Rows != 1 {
		t.Error("the database does not go on")
	}
	equalAttributes(t, db, "train", map[string][]Value{})
}
