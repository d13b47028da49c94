package memory

import (
	"errors"
	"testing"

	"membank/simd"
	"membank/store"
)

// What was acknowledged is there after a reopening, whatever the mix of
// durabilities, checkpoints and restores; the model is a copy of the state.
func TestReopenedBankIsAtItsLastDurableStep(t *testing.T) {
	for _, kind := range []Kind{KindSlots, KindQueue} {
		t.Run(string(kind), func(t *testing.T) {
			db := database(t)
			c := Config{Kind: kind, Rows: 50, Views: []View{{Dim: 8}, {Dim: 3, Init: InitUniform}}, Seed: 7}
			if kind == KindSlots {
				c.Prototypes = 4
			}
			b := mustCreate(t, db, "run/one", c, CreateOptions{})
			r := generator(3)
			durable := contentsOf(t, b)
			checkpoints := map[int64]contents{}
			for range 300 {
				d := Durabilities[r.IntN(3)]
				n := 1 + r.IntN(70)
				var err error
				switch action := r.IntN(20); {
				case action == 0:
					b = reopen(t, b)
					if !contentsOf(t, b).same(durable) {
						t.Fatalf("step %d: reopened bank differs from what was durable", b.state.Step)
					}
				case action == 1:
					var point Checkpoint
					if point, err = b.Checkpoint(background, 0); errors.Is(err, ErrStep) {
						err = nil
						break
					}
					durable = contentsOf(t, b)
					checkpoints[point.Step] = durable
				case action == 2 && len(checkpoints) > 0:
					for step, then := range checkpoints {
						if _, err = b.Restore(background, step); err != nil {
							break
						}
						durable = contentsOf(t, b)
						if !durable.same(then) {
							t.Fatalf("restored step %d differs from what it was", step)
						}
						break
					}
				case action == 3 && kind == KindSlots:
					if err = b.SetPrototypes(background, []int64{int64(r.IntN(4))}, random(r, 1, 8), d); err == nil && d != Memory {
						durable = contentsOf(t, b)
					}
				case action == 4:
					_, err = b.NCE(background, random(r, 2, 3), NCEOptions{Rule: ZEMA, T: 1, Durability: d})
					if err == nil && d != Memory {
						durable = contentsOf(t, b)
					}
				default:
					rows := []simd.Matrix{random(r, n, 8), random(r, n, 3)}
					labels := make([]int64, n)
					keys := make([]string, n)
					for i := range labels {
						labels[i], keys[i] = int64(r.IntN(5)), string(rune('a'+r.IntN(26)))
						if r.IntN(4) == 0 {
							labels[i] = store.NoLabel
						}
					}
					if r.IntN(2) == 0 {
						labels = nil
					}
					if kind == KindSlots {
						ids := make([]int64, n)
						for i := range ids {
							ids[i] = int64(r.IntN(50))
						}
						if r.IntN(3) == 0 {
							rows = rows[:1]
						}
						s, _ := b.Slots()
						_, err = s.Update(background, ids, rows, UpdateOptions{KeepOld: 0.5, Labels: labels, Durability: d})
					} else {
						q, _ := b.Queue()
						if r.IntN(2) == 0 {
							keys = nil
						}
						_, err = q.Push(background, rows, PushOptions{Labels: labels, Keys: keys, Durability: d})
					}
					if err == nil && d != Memory {
						durable = contentsOf(t, b)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if len(checkpoints) < 3 {
				t.Fatalf("%d checkpoints", len(checkpoints))
			}
		})
	}
}
