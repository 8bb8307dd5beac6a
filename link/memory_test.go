package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// memoryPair is a network with one connection from host a to host b.
func memoryPair(t *testing.T) (m *Memory, a, b net.Conn) {
	t.Helper()
	m = NewMemory()
	ln, err := m.Listen("b:1")
	if err != nil {
		t.Fatal(err)
	}
	if a, err = m.Dialer("a")(t.Context(), "b:1"); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return m, a, b
}

func TestMemoryCarriesBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := memoryPair(t)
		defer m.Close()
		sent := bytes.Repeat([]byte("0123456789"), 100_000) // more than a window
		go func() {
			a.Write(sent)
			a.Close()
		}()
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("read %d bytes, %v; want %d and an end", len(got), err, len(sent))
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a closed reader: %v", err)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %v", err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v", err)
		}
		if got := []string{a.RemoteAddr().String(), b.LocalAddr().String()}; cmp.Diff([]string{"b:1", "b:1"}, got) != "" {
			t.Errorf("addresses %v", got)
		}
	})
}

func TestMemoryKeepsDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := memoryPair(t)
		defer m.Close()
		start := time.Now()
		a.SetReadDeadline(start.Add(time.Minute))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("read: %v after %s", err, time.Since(start))
		}
		a.SetReadDeadline(time.Time{})
		go func() {
			time.Sleep(time.Hour)
			a.SetReadDeadline(time.Unix(1, 0)) // wakes a read that began without one
		}()
		start = time.Now()
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("read: %v after %s", err, time.Since(start))
		}
		a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := a.Write(make([]byte, 2*memWindow)); n != memWindow || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %d, %v", n, err)
		}
		a.SetDeadline(time.Time{})
		go b.Read(make([]byte, 1))
		if _, err := a.Write([]byte("x")); err != nil {
			t.Errorf("write after the deadline was taken back: %v", err)
		}
	})
}

func TestMemoryCutLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := memoryPair(t)
		defer m.Close()
		m.Cut("a")
		a.Write([]byte("later"))
		a.Close()
		b.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := b.Read(make([]byte, 5)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read while cut: %v", err)
		}
		b.SetReadDeadline(time.Time{})
		m.Heal("a")
		if got, err := io.ReadAll(b); err != nil || string(got) != "later" {
			t.Errorf("read after: %q, %v", got, err)
		}
	})
}

func TestMemoryDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		defer m.Close()
		ln, err := m.Listen("b:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		if _, err := m.Listen(addr); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Listen twice: %v", err)
		}
		if _, err := m.Dial(t.Context(), "c:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody there: %v", err)
		}
		m.Cut("b")
		start := time.Now()
		if _, err := m.Dial(t.Context(), addr); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != dialTimeout {
			t.Errorf("cut off: %v after %s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Dial(ctx, addr); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cut off, with a deadline: %v", err)
		}
		m.Heal("b")
		conn, err := m.Dial(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		ln.Close() // a connection that was not accepted is reset
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		if _, err := m.Dial(t.Context(), addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("after Close: %v", err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
	})
}

func TestMemoryKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := memoryPair(t)
		defer m.Close()
		m.Kill("b")
		for name, c := range map[string]net.Conn{"the killed": b, "the other": a} {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s reads: %v", name, err)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s writes: %v", name, err)
			}
		}
		if _, err := m.Dial(t.Context(), "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial: %v", err)
		}
	})
}
