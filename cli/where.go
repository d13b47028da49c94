package cli

import (
	"context"
	"strings"

	"membank/store"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// filter is a compiled --where expression over one bank. Its names are row, key,
// label, class and the bank's attributes, typed as the bank has them, so that a
// misspelt name or a comparison of a number with a text fails before any row is
// read.
//
// A row whose label, class or attribute is missing has nil there: "year == nil"
// finds it, and any other expression that cannot be evaluated for it leaves it
// out, so neither "year > 2000" nor "year != 2000" holds, as in SQL.
type filter struct {
	source     string
	program    *vm.Program
	mentioned  []string // the names that occur in it
	attributes []string // those of them that are attributes
	names      string   // all names, for errors
}

// compileFilter compiles the expression for a bank. A fault in it is wrong usage.
func compileFilter(ctx context.Context, snap *store.Snapshot, source string) (*filter, error) {
	info := snap.Info()
	f := &filter{source: source}
	environment := map[string]any{"row": 0, "key": "", "label": 0, "class": ""}
	known := append([]string{"row", "key", "label", "class"}, info.Attributes...)
	for i, name := range known {
		if strings.Contains(source, name) {
			f.mentioned = append(f.mentioned, name)
			if i >= 4 {
				f.attributes = append(f.attributes, name)
			}
		}
	}
	f.names = strings.Join(known, ", ")
	samples, err := attributeSamples(ctx, snap, f.attributes)
	if err != nil {
		return nil, err
	}
	for name, value := range samples {
		environment[name] = value
	}
	f.program, err = expr.Compile(source, expr.Env(environment), expr.AsBool())
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, usage("--where %q: %s (bank %q knows %s)", source, first, info.Bank, f.names)
	}
	return f, nil
}

// attributeSamples returns a value of each attribute's type: the first that is
// not null, nil where all are.
func attributeSamples(ctx context.Context, snap *store.Snapshot, names []string) (map[string]any, error) {
	samples := map[string]any{}
	for _, name := range names {
		samples[name] = nil
	}
	missing := len(names)
	r := snap.NewReader()
	for b := 0; b < snap.Blocks() && missing > 0; b++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := r.Columns(b, func(c *store.Columns) error {
			for i := range c.Rows {
				for _, name := range names {
					if v := value(c.Attribute(name, i)); samples[name] == nil && v != nil {
						samples[name] = v
						missing--
					}
				}
			}
			return nil
		}, names...)
		if err != nil {
			return nil, err
		}
	}
	return samples, nil
}

// value of an attribute as expressions see it: nil, int, float64 or string.
func value(v store.Value) any {
	if v.Kind() == store.KindInt {
		return int(v.Int())
	}
	return v.Any()
}

// match calls fn with each live row that the expression holds for, in block
// order. It reads columns only, no vectors.
func (f *filter) match(ctx context.Context, snap *store.Snapshot, fn func(row int64)) error {
	classNames := snap.Info().ClassNames
	environment := map[string]any{}
	machine := vm.VM{}
	r := snap.NewReader()
	for b := range snap.Blocks() {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.Columns(b, func(c *store.Columns) error {
			for i := range c.Rows {
				if c.Dead[i] {
					continue
				}
				environment["row"], environment["key"] = int(c.Row[i]), c.Key(i)
				environment["label"], environment["class"] = nil, nil
				if l := c.Label[i]; l != store.NoLabel {
					environment["label"] = int(l)
					if name := className(classNames, l); name != "" {
						environment["class"] = name
					}
				}
				for _, name := range f.attributes {
					environment[name] = value(c.Attribute(name, i))
				}
				holds, err := machine.Run(f.program, environment)
				if err != nil {
					if f.lacksValue(environment) {
						continue
					}
					first, _, _ := strings.Cut(err.Error(), "\n")
					return usage("--where %q: row %d: %s (the names are %s)", f.source, c.Row[i], first, f.names)
				}
				if yes, _ := holds.(bool); yes {
					fn(c.Row[i])
				}
			}
			return nil
		}, f.attributes...)
		if err != nil {
			return err
		}
	}
	return nil
}

// lacksValue reports whether a name of the expression is nil for a row.
func (f *filter) lacksValue(environment map[string]any) bool {
	for _, name := range f.mentioned {
		if environment[name] == nil {
			return true
		}
	}
	return false
}

// className is the name of a label, "" when it has none.
func className(names []string, label int64) string {
	if label < 0 || label >= int64(len(names)) {
		return ""
	}
	return names[label]
}

// rowsWhere collects the rows of an expression.
func rowsWhere(ctx context.Context, snap *store.Snapshot, source string) ([]int64, error) {
	f, err := compileFilter(ctx, snap, source)
	if err != nil {
		return nil, err
	}
	var rows []int64
	err = f.match(ctx, snap, func(row int64) { rows = append(rows, row) })
	return rows, err
}
