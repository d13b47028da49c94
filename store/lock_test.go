package store

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

func TestLockErrorNamesTheHolder(t *testing.T) {
	if dir := os.Getenv("LOCK_HOLD_DIR"); dir != "" {
		db, err := badger.Open(plainOptions(blocksDirectory(dir)).WithReadOnly(os.Getenv("LOCK_HOLD_READ") != ""))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("open")
		os.Stdin.Read(make([]byte, 1))
		db.Close()
		os.Exit(0)
	}
	if runtime.GOOS != "linux" {
		t.Skip("who holds a lock can only be asked on Linux")
	}
	dir := newPlain(t, 10)
	if h, ok := LockHolder(dir); ok {
		t.Fatalf("held by %v", h)
	}
	for _, reading := range []string{"", "yes"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLockErrorNamesTheHolder$")
		cmd.Env = append(os.Environ(), "LOCK_HOLD_DIR="+dir, "LOCK_HOLD_READ="+reading)
		stdin, _ := cmd.StdinPipe()
		stdout, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 4)
		if _, err := stdout.Read(answer); err != nil || string(answer) != "open" {
			t.Fatal(string(answer), err)
		}
		_, err := badger.Open(plainOptions(blocksDirectory(dir)))
		err = lockError(dir, err)
		if !errors.Is(err, ErrLocked) {
			t.Fatal(err)
		}
		for _, want := range []string{fmt.Sprint("process ", cmd.Process.Pid), "-test.run", "since", "wait for it or stop it"} {
			if !strings.Contains(err.Error(), want) {
				t.Fatalf("%q is not in %v", want, err)
			}
		}
		h, ok := LockHolder(dir)
		if !ok || h.PID != cmd.Process.Pid || h.Reading != (reading != "") {
			t.Fatalf("%+v", h)
		}
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if h, ok := LockHolder(dir); ok {
		t.Fatalf("held by %v", h)
	}
}

func TestLockErrorLeavesOtherErrorsAlone(t *testing.T) {
	other := errors.New("something else")
	if err := lockError("db", other); err != other {
		t.Fatal(err)
	}
}
