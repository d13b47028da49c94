package memory

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"membank/simd"
	"membank/store"
)

// A child process writes steps and says which were acknowledged; it is killed at any
// moment, in an update, a checkpoint or a restore. What the next process finds is
// exactly the state after some step, none that was promised later than it.

const crashChild = "MEMBANK_MEMORY_CRASH_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashChild); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var crashConfig = Config{Kind: KindSlots, Rows: 60, Views: []View{{Dim: 8}, {Dim: 3}}, Seed: 4, Prototypes: 3}
var crashQueue = Config{Kind: KindQueue, Rows: 31, Views: []View{{Dim: 4}}, Seed: 5, Order: OrderShift}

// doStep is step n of the child, a function of n alone.
func doStep(s *Slots, q *Queue, n int64, d Durability) error {
	r := rand.New(rand.NewPCG(uint64(n), 99))
	ids, labels := make([]int64, 1+r.IntN(40)), []int64(nil)
	for i := range ids {
		ids[i] = int64(r.IntN(60))
		labels = append(labels, int64(r.IntN(9)))
	}
	rows := []simd.Matrix{random(r, len(ids), 8), random(r, len(ids), 3)}
	if _, err := s.Update(background, ids, rows, UpdateOptions{KeepOld: 0.5, Step: n, Labels: labels, Durability: d}); err != nil {
		return err
	}
	m := random(r, 1+r.IntN(9), 4)
	keys := make([]string, m.Rows)
	for i := range keys {
		keys[i] = fmt.Sprint("key", r.IntN(5))
	}
	_, err := q.Push(background, []simd.Matrix{m}, PushOptions{Step: n, Keys: keys, Durability: d})
	return err
}

func writeUntilKilled(dir string) error {
	db, err := store.Open(background, dir, store.Options{})
	if err != nil {
		return err
	}
	b, err := Open(background, db, "slots")
	if err != nil {
		return err
	}
	p, err := Open(background, db, "queue")
	if err != nil {
		return err
	}
	s, _ := b.Slots()
	q, _ := p.Queue()
	// A push whose update was acknowledged before the kill: catch up.
	for q.state.Step < s.state.Step {
		if err := catchUp(q, q.state.Step+1); err != nil {
			return err
		}
	}
	say := func(words ...any) { fmt.Println(words...) }
	say("open", s.state.Step)
	for n := s.state.Step + 1; ; n++ {
		d := Durabilities[n%3]
		if err := doStep(s, q, n, d); err != nil {
			return err
		}
		if d != Memory {
			say("done", n)
		}
		if n%11 == 0 {
			for _, bank := range []*Bank{b, p} {
				if _, err := bank.Checkpoint(background, 0); err != nil {
					return err
				}
			}
			say("done", n)
		}
		if n%33 == 5 && n > 33 { // an older checkpoint than the log's
			if err := b.Forget(background, n/11*11-11); err != nil && !errors.Is(err, ErrNoCheckpoint) {
				return err
			}
		}
	}
}

// catchUp does the push of a step alone.
func catchUp(q *Queue, n int64) error {
	scratch, err := Create(background, nil, "", crashConfig, CreateOptions{})
	if err != nil {
		return err
	}
	defer scratch.Close()
	s, _ := scratch.Slots()
	return doStep(s, q, n, Memory)
}

func TestKilledAtAnyMoment(t *testing.T) {
	kills := 12
	if n, err := strconv.Atoi(os.Getenv("MEMBANK_KILLS")); err == nil {
		kills = n
	} else if testing.Short() {
		kills = 3
	}
	dir := filepath.Join(t.TempDir(), "db")
	db, err := store.Open(background, dir, store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{"slots": crashConfig, "queue": crashQueue} {
		b, err := Create(background, db, name, c, CreateOptions{})
		if err == nil {
			err = b.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// The model goes on from step to step in memory.
	model := mustCreate(t, nil, "", crashConfig, CreateOptions{})
	modelQueue := mustCreate(t, nil, "", crashQueue, CreateOptions{})
	ms, _ := model.Slots()
	mq, _ := modelQueue.Queue()
	r := generator(uint64(kills))
	promised := int64(0)
	for kill := range kills {
		promised = max(promised, killChild(t, dir, time.Duration(r.IntN(120))*time.Millisecond))
		db, err := store.Open(background, dir, store.Options{})
		if err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		b, err := Open(background, db, "slots")
		if err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		q, err := Open(background, db, "queue")
		if err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		if b.state.Step < promised || q.state.Step < promised {
			t.Fatalf("kill %d: step %d was acknowledged, slots are at %d and the queue at %d", kill, promised, b.state.Step, q.state.Step)
		}
		for _, c := range []struct{ got, model *Bank }{{b, model}, {q, modelQueue}} {
			for c.model.state.Step < c.got.state.Step {
				n := c.model.state.Step + 1
				if c.model == model {
					err = doStep(ms, mustQueue(t, nil, crashQueue), n, Memory)
				} else {
					err = catchUp(mq, n)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if c.model.state.Step != c.got.state.Step || !contentsOf(t, c.got).same(contentsOf(t, c.model)) {
				t.Fatalf("kill %d: %s at step %d is not what the steps make it", kill, c.got.name, c.got.state.Step)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if promised < int64(kills) {
		t.Errorf("only %d steps in %d runs", promised, kills)
	}
	t.Logf("%d steps, %d kills", promised, kills)
}

// killChild runs the child and kills it some time after it is open; it returns the
// last step that was acknowledged durably.
func killChild(t *testing.T, dir string, after time.Duration) (promised int64) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), crashChild+"="+dir)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		word, number, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "open":
			time.AfterFunc(after, func() { c.Process.Signal(syscall.SIGKILL) })
		case "done":
			if promised, err = strconv.ParseInt(number, 10, 64); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("child: %s", lines.Text())
		}
	}
	c.Wait()
	return promised
}
