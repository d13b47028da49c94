package cli

import (
	"context"
	"strconv"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// transforms are what is done to rows before they are searched.
type transforms struct {
	gem    *eval.GeM
	whiten string // a variant; "": none
	from   string
	dims   int
}

// whitenFlags are those of commands that whiten rows first.
func whitenFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.StringFlag{Name: "whiten", Usage: "whiten rows first: `VARIANT` dino, vissl, deepcluster or faiss"},
		&ucli.StringFlag{Name: "whiten-from", Usage: "learn the whitening from this `BANK`"},
		&ucli.StringFlag{Name: "whiten-dims", Usage: "keep `D` directions", DefaultText: "the variant's"},
	}
}

// gemFlags are those of commands that pool tokens first.
func gemFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.StringFlag{Name: "gem", Usage: "pool the rows of each image first, with exponent `P` (3 and 4 are usual)"},
		&ucli.StringFlag{Name: "gem-group", Usage: "rows of one image share this `ATTRIBUTE`", DefaultText: "the key up to its last #"},
		&ucli.StringFlag{Name: "gem-class", Usage: "the `TOKEN` behind # that is set in front of the pooled ones instead"},
	}
}

func transformFlags(c *ucli.Context) (t transforms, err error) {
	if text := c.String("gem"); text != "" {
		g := &eval.GeM{Group: c.String("gem-group"), Class: c.String("gem-class")}
		if g.P, err = strconv.ParseFloat(text, 64); err != nil || !(g.P > 0) {
			return t, usage("--gem %s: not an exponent (write 3 or 4)", text)
		}
		t.gem = g
	} else if c.IsSet("gem-group") || c.IsSet("gem-class") {
		return t, usage("--gem-group and --gem-class belong to --gem (give that, too, such as --gem 3)")
	}
	t.whiten, t.from = c.String("whiten"), c.String("whiten-from")
	switch {
	case t.whiten == "" && (t.from != "" || c.IsSet("whiten-dims")):
		return t, usage("--whiten-from and --whiten-dims belong to --whiten (give dino, vissl, deepcluster or faiss)")
	case t.whiten == "":
		return t, nil
	case t.from == "":
		return t, usage("--whiten %s: learnt from which bank? (give --whiten-from BANK)", t.whiten)
	}
	known := false
	for _, v := range eval.WhiteningVariants() {
		known = known || v.Name == t.whiten
	}
	if !known {
		return t, usage("--whiten %s: no such whitening (dino, vissl, deepcluster or faiss)", t.whiten)
	}
	if text := c.String("whiten-dims"); text != "" {
		if t.dims, err = strconv.Atoi(text); err != nil || t.dims < 1 {
			return t, usage("--whiten-dims %s: not a number of directions (write 1 or more)", text)
		}
	}
	return t, nil
}

// openSets are banks, transformed as asked.
type openSets struct {
	of        []*eval.Set
	snapshots []*store.Snapshot
}

func (o *openSets) close() {
	for _, s := range o.snapshots {
		s.Close()
	}
}

// open opens banks and transforms their rows; a bank that is named twice is one set.
func (t transforms) open(ctx context.Context, s *session, db *store.DB, banks ...string) (_ *openSets, err error) {
	o := &openSets{}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	memory := s.memory / 2
	if memory == 0 {
		memory = 4 << 30
	}
	stored := func(bank string) (*eval.Set, error) {
		snap, err := db.Snapshot(bank)
		if err != nil {
			return nil, bankError(db, bank, err)
		}
		o.snapshots = append(o.snapshots, snap)
		if err := s.uses(ctx, snap); err != nil {
			return nil, err
		}
		if t.gem == nil {
			return eval.NewSet(ctx, snap)
		}
		g := *t.gem
		g.Memory = memory
		return g.Pool(ctx, snap)
	}
	known := map[string]*eval.Set{}
	var whitening *eval.Whitening
	if t.whiten != "" {
		from, err := stored(t.from)
		if err == nil {
			whitening, err = eval.LearnWhitening(ctx, from, t.whiten, t.dims, s.threads)
		}
		if err != nil {
			return nil, err
		}
		if whitening.Dropped() > 0 {
			s.remark("%s: %s without variance are left out", whitening, plural(whitening.Dropped(), "direction"))
		}
	}
	for _, bank := range banks {
		if known[bank] == nil {
			set, err := stored(bank)
			if err == nil && whitening != nil {
				set, err = whitening.Apply(ctx, set, memory)
			}
			if err != nil {
				return nil, err
			}
			known[bank] = set
		}
		o.of = append(o.of, known[bank])
	}
	return o, nil
}
