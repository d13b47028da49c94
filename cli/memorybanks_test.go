package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"membank/index/memory"
	"membank/simd"
	"membank/store"
)

func openTestBanks(t *testing.T, dir string, most int64) (*openBanks, *store.DB) {
	t.Helper()
	db, err := store.Open(context.Background(), dir, store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return newOpenBanks(db, most), db
}

func smallConfig(rows int64) memory.Config {
	return memory.Config{Kind: memory.KindSlots, Rows: rows, Views: []memory.View{{Dim: 4, Init: memory.InitZeros}}}
}

// What would not fit is refused before anything is made; what is removed gives its
// room back.
func TestOpenBanksAreBounded(t *testing.T) {
	ctx := context.Background()
	banks, db := openTestBanks(t, filepath.Join(t.TempDir(), "db"), 3*bytesOf(smallConfig(100)))
	defer db.Close()
	for i := range 3 {
		_, release, err := banks.create(ctx, fmt.Sprint("b", i), smallConfig(100), memory.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
	if _, _, err := banks.create(ctx, "huge", smallConfig(1<<50), memory.CreateOptions{}); err == nil {
		t.Error("a bank of 2^50 rows was made")
	}
	if _, _, err := banks.create(ctx, "b3", smallConfig(100), memory.CreateOptions{}); err == nil {
		t.Error("a fourth bank fits three")
	}
	if list, err := memory.List(db, ""); err != nil || len(list) != 3 {
		t.Errorf("on disk are %v, %v", list, err)
	}
	if _, _, err := banks.borrow(ctx, "nobody"); !errors.Is(err, memory.ErrNone) {
		t.Errorf("a bank that is not there: %v", err)
	}
	if _, _, err := banks.create(ctx, "b1", smallConfig(100), memory.CreateOptions{}); !errors.Is(err, memory.ErrExists) {
		t.Errorf("a second of one name: %v", err)
	}
	if err := banks.remove(ctx, "b1"); err != nil {
		t.Error(err)
	}
	if n, bytes := banks.total(); n != 2 || bytes != 2*bytesOf(smallConfig(100)) {
		t.Errorf("%d banks of %d bytes are open", n, bytes)
	}
	_, release, err := banks.create(ctx, "b4", smallConfig(100), memory.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	release()
	if err := banks.close(); err != nil {
		t.Error(err)
	}
	if _, _, err := banks.borrow(ctx, "b0"); !errors.Is(err, memory.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// Many open, write, remove and make one name at once; there is never a second bank
// of it, and nobody waits for ever.
func TestOpenBanksUnderRace(t *testing.T) {
	ctx := context.Background()
	banks, db := openTestBanks(t, filepath.Join(t.TempDir(), "db"), 1<<30)
	defer db.Close()
	rows := []simd.Matrix{{Data: []float32{1, 2, 3, 4}, Rows: 1, Dim: 4}}
	var all sync.WaitGroup
	for worker := range 6 {
		all.Go(func() {
			for range 30 {
				var err error
				var b *memory.Bank
				var release func() error
				switch worker {
				case 0:
					err = banks.remove(ctx, "m")
				case 1:
					_, release, err = banks.create(ctx, "m", smallConfig(8), memory.CreateOptions{})
				default:
					if b, release, err = banks.borrow(ctx, "m"); err == nil {
						var slots *memory.Slots
						if slots, err = b.Slots(); err == nil {
							_, err = slots.Update(ctx, []int64{3}, rows, memory.UpdateOptions{Durability: memory.Log})
						}
					}
				}
				if release != nil {
					release()
				}
				if err != nil && !errors.Is(err, memory.ErrNone) && !errors.Is(err, memory.ErrExists) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := banks.close(); err != nil {
		t.Error(err)
	}
}

// An orderly stop keeps what was acknowledged in memory only, though it need not.
func TestCloseKeepsWhatIsInMemory(t *testing.T) {
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "db")
	banks, db := openTestBanks(t, dir, 1<<30)
	b, release, err := banks.create(ctx, "m", smallConfig(8), memory.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slots, err := b.Slots()
	if err != nil {
		t.Fatal(err)
	}
	rows := []simd.Matrix{{Data: []float32{0, 0, 3, 4}, Rows: 1, Dim: 4}}
	if _, err := slots.Update(ctx, []int64{3}, rows, memory.UpdateOptions{Durability: memory.Memory}); err != nil {
		t.Fatal(err)
	}
	release()
	if err := errors.Join(banks.close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	banks, db = openTestBanks(t, dir, 1<<30)
	defer db.Close()
	defer banks.close()
	b, release, err = banks.borrow(ctx, "m")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	got, err := b.Gather(ctx, []int64{3})
	if err != nil || got[0].Data[3] != 0.8 {
		t.Errorf("after a stop %v, %v", got, err)
	}
}
