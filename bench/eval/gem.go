package eval

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// GeM pools the rows of each image into one descriptor: rows are patch tokens, as a
// ViT gives them, and belong together by the part of the key before the last '#', or
// by an attribute. Element by element,
//
//	( mean over the tokens of max(x, 1e-6)^p )^(1/p)
//
// (Radenović et al. 2018). p = 1 is the average of what is positive, a large p the
// maximum; DINO's copy detection takes 4.
type GeM struct {
	P     float64 // above 0; 0 means 3
	Group string  // an attribute; "": the key up to its last '#'

	// Class is the part of a key behind '#' that names a class token. It is not
	// pooled but set in front of the pooled ones, so that descriptors are twice as
	// wide: [CLS ‖ GeM], as DINO's. "": there is none.
	Class string

	Memory int64 // bytes for the descriptors; 0: 1 GiB
}

const gemFloor = 1e-6

// Pool reads a bank of tokens and returns the descriptors of its images, in the order
// in which their first tokens stand, keyed by what they share. An image has the label
// of its tokens, which must agree. Errors: ErrGroup for a row that belongs to no
// image, an image without its class token or with two, labels that disagree, and
// descriptors beyond Memory.
func (g GeM) Pool(ctx context.Context, s *store.Snapshot) (*Set, error) {
	p := g.P
	if p == 0 {
		p = 3
	}
	if !(p > 0) || math.IsInf(p, 0) {
		return nil, fmt.Errorf("%w: GeM's p is %v, it must be positive and finite", ErrProtocol, g.P)
	}
	info := s.Info()
	if g.Group != "" && !slices.Contains(info.Attributes, g.Group) {
		return nil, fmt.Errorf("%w: bank %q has no attribute %q, only %q", ErrGroup, info.Bank, g.Group, info.Attributes)
	}
	q := &pooling{GeM: g, bank: info.Bank, dim: info.Dim, of: map[string]int{}}
	if q.P = p; q.Memory <= 0 {
		q.Memory = 1 << 30
	}
	if err := s.Batches(ctx, 1024, q.add); err != nil {
		return nil, err
	}
	return q.finish(info)
}

// pooling is a Pool under way.
type pooling struct {
	GeM
	bank   string
	dim    int
	of     map[string]int // place of an image
	images []pooled
}

// pooled is one image.
type pooled struct {
	key    string
	label  int64
	tokens int64
	sums   []float64 // of max(x, floor)^p
	class  []float32
}

func (q *pooling) add(b store.Batch) error {
	groups := slices.IndexFunc(b.Attributes, func(a store.Attribute) bool { return a.Name == q.Group })
	for i, key := range b.Keys {
		image, token := key, ""
		if q.Group == "" {
			at := strings.LastIndexByte(key, '#')
			if at < 0 {
				return fmt.Errorf("%w: bank %q row %d: key %q has no '#' between image and token", ErrGroup, q.bank, b.Rows[i], key)
			}
			image, token = key[:at], key[at+1:]
		} else {
			v := b.Attributes[groups].Values[i]
			if v.IsNull() {
				return fmt.Errorf("%w: bank %q row %d has no %s", ErrGroup, q.bank, b.Rows[i], q.Group)
			}
			image = v.String()
			_, token, _ = strings.Cut(key, "#")
		}
		at, known := q.of[image]
		if !known {
			at = len(q.images)
			q.of[image] = at
			q.images = append(q.images, pooled{key: image, label: b.Labels[i], sums: make([]float64, q.dim)})
			// Sums here, then the rows twice: as a matrix and packed.
			if need := int64(len(q.images)) * int64(q.dim) * (8 + 2*4*2); need > q.Memory {
				return fmt.Errorf("%w: the descriptors of more than %d images of bank %q exceed %d MiB of memory", ErrGroup, at, q.bank, q.Memory>>20)
			}
		}
		m := &q.images[at]
		if m.label != b.Labels[i] {
			return fmt.Errorf("%w: bank %q row %d: its label is not that of the other tokens of %q", ErrGroup, q.bank, b.Rows[i], image)
		}
		x := b.Vectors.Row(i)
		if q.Class != "" && token == q.Class {
			if m.class != nil {
				return fmt.Errorf("%w: bank %q row %d: image %q has two class tokens", ErrGroup, q.bank, b.Rows[i], image)
			}
			m.class = slices.Clone(x)
			continue
		}
		m.tokens++
		for d, v := range x {
			m.sums[d] += math.Pow(max(float64(v), gemFloor), q.P)
		}
	}
	return nil
}

func (q *pooling) finish(info store.Info) (*Set, error) {
	width := q.dim
	name := fmt.Sprintf("GeM p=%g", q.P)
	if q.Class != "" {
		width *= 2
		name = "CLS, " + name
	}
	s := &Set{use: BankUse{info.Bank, info.Generation, info.DType.String(), int64(len(q.images))}, dim: width, names: info.ClassNames, made: []string{name}}
	s.rows = simd.NewMatrix(len(q.images), width)
	for i, m := range q.images {
		to := s.rows.Row(i)
		if q.Class != "" {
			if m.class == nil {
				return nil, fmt.Errorf("%w: image %q of bank %q has no token %q", ErrGroup, m.key, q.bank, q.Class)
			}
			copy(to, m.class)
			to = to[q.dim:]
		}
		if m.tokens == 0 {
			return nil, fmt.Errorf("%w: image %q of bank %q has no patch token", ErrGroup, m.key, q.bank)
		}
		for d, sum := range m.sums {
			to[d] = float32(math.Pow(sum/float64(m.tokens), 1/q.P))
		}
		s.keys, s.labels = append(s.keys, m.key), append(s.labels, m.label)
		q.images[i].sums = nil
	}
	return s, s.index()
}

// index makes a transformed set searchable.
func (s *Set) index() (err error) {
	s.ix, err = index.FromMatrix(s.rows, index.MatrixOptions{NoCodes: true})
	if err != nil {
		return fmt.Errorf("bank %q after %s: %w", s.use.Bank, strings.Join(s.made, ", "), err)
	}
	return nil
}
