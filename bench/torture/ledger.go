package torture

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// The ledger is a file of JSON lines beside the database, opened O_APPEND|O_SYNC.
// An operation that changes a bank writes a line before it starts (begin) and one
// after it was acknowledged (ack) or refused with an error that may occur
// (refused). A begin without an end was under way when the process died; the next
// look at the database settles which of the two happened (ack or refused).
type line struct {
	State string `json:"state"` // "begin", "ack" or "refused"
	change
	Generation uint64 `json:"generation,omitempty"` // of an ack: as the store reported it
	Live       int64  `json:"live,omitempty"`
}

// change is one operation on one bank, as the model applies it.
type change struct {
	Op    string  `json:"op,omitempty"`
	Bank  string  `json:"bank"`
	Dim   int     `json:"dim,omitempty"`
	Half  bool    `json:"half,omitempty"`
	New   segment `json:"new,omitzero"`
	Every int     `json:"every,omitempty"` // delete or overwrite rows ≡ From mod Every
	From  int     `json:"from,omitempty"`
	Lists int     `json:"lists,omitempty"` // group into so many
}

// ledger is the file together with the model that it replays to.
type ledger struct {
	mu      sync.Mutex
	file    *os.File
	model   model
	pending map[string]change // by bank: begun, not settled
	lines   uint64            // read when it was opened
}

// openLedger reads a ledger and opens it for appending. A torn last line, which a
// killed child leaves, is a line that was never written.
func openLedger(path string) (*ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|os.O_SYNC, 0o644)
	if err != nil {
		return nil, err
	}
	l := &ledger{file: f, model: model{}, pending: map[string]change{}}
	r := bufio.NewReader(f)
	whole := int64(0)
	for {
		b, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		whole += int64(len(b))
		var entry line
		if err := json.Unmarshal(bytes.TrimSpace(b), &entry); err != nil {
			f.Close()
			return nil, fmt.Errorf("ledger %s: %w", path, err)
		}
		l.replay(entry)
		l.lines++
	}
	return l, f.Truncate(whole)
}

func (l *ledger) replay(entry line) {
	switch entry.State {
	case "begin":
		l.pending[entry.Bank] = entry.change
	case "ack":
		l.model[entry.Bank] = after(l.model[entry.Bank], l.pending[entry.Bank])
		if l.model[entry.Bank] == nil {
			delete(l.model, entry.Bank)
		}
		delete(l.pending, entry.Bank)
	case "refused":
		delete(l.pending, entry.Bank)
	}
}

func (l *ledger) write(entry line) error {
	b, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("the ledger cannot be written: %w", err)
	}
	l.replay(entry)
	return nil
}

func (l *ledger) close() { l.file.Close() }

// bank returns what a bank must hold, nil if it must not be there.
func (l *ledger) bank(name string) *bank {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.model[name]
}

// after is what a bank must hold after a change of it; nil is no bank.
func after(b *bank, c change) *bank {
	for _, op := range operations {
		if op.name == c.Op && op.apply != nil {
			return op.apply(b.clone(), c)
		}
	}
	panic("torture: the ledger holds an operation that is not in the table: " + c.Op)
}
