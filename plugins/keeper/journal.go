package keeper

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// record is one line of the journal. It holds nothing of a process's environment or arguments: they may be secret.
type record struct {
	Op      string   `json:"op"` // boot, intend, start, exit, forget
	ID      string   `json:"id,omitempty"`
	Boot    string   `json:"boot,omitempty"`
	Process *Process `json:"process,omitempty"`
	Pipes   []string `json:"pipes,omitempty"`
}

// journal is the file in which the keeper writes what its successor must know. A line is in the kernel's hands, and so
// safe from the death of the keeper, when append returns; it is safe from the death of the machine after sync.
type journal struct {
	path string

	mu      sync.Mutex
	file    *os.File
	size    int64
	limit   int64  // from which size on it is written anew
	written uint64 // lines
	failed  error  // once a line is lost, no later one is taken

	syncing sync.Mutex
	synced  uint64 // lines
}

const journalName = "journal"

// minJournal is the size in bytes below which the journal is not written anew.
const minJournal = 4 << 20

// readJournal returns what is in a journal, oldest first. A line that was cut short by a crash is left out.
func readJournal(dir string) ([]record, error) {
	file, err := os.Open(filepath.Join(dir, journalName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var records []record
	for in := bufio.NewReader(file); ; {
		line, err := in.ReadBytes('\n')
		var r record
		if json.Unmarshal(bytes.TrimSpace(line), &r) == nil {
			records = append(records, r)
		}
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// rewrite replaces the journal by one that holds only what records returns, at once or not at all.
func (j *journal) rewrite(records func() []record) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return j.failed
	}
	file, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	encoder := json.NewEncoder(out)
	for _, r := range records() {
		err = errors.Join(err, encoder.Encode(r))
	}
	err = errors.Join(err, out.Flush(), file.Sync())
	info, statErr := file.Stat()
	if err = errors.Join(err, statErr); err == nil {
		err = errors.Join(os.Rename(j.path+".new", j.path), syncDir(filepath.Dir(j.path)))
	}
	if err != nil {
		file.Close()
		return fmt.Errorf("journal: %w", err)
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.size, j.limit, j.synced = file, info.Size(), max(minJournal, 2*info.Size()), j.written
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// append writes one line and returns its number.
func (j *journal) append(r record) (uint64, error) {
	line, err := json.Marshal(r)
	if err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return 0, j.failed
	}
	n, err := j.file.Write(append(line, '\n'))
	j.size += int64(n)
	if err != nil {
		err = fmt.Errorf("journal: %w", err)
		if n > 0 { // half a line is there
			j.failed = err
		}
		return 0, err
	}
	j.written++
	return j.written, nil
}

// sync returns when the line of that number is on disk. Callers that come together share one fsync.
func (j *journal) sync(line uint64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= line {
		return nil
	}
	j.mu.Lock()
	file, upTo, failed := j.file, j.written, j.failed
	j.mu.Unlock()
	if failed != nil {
		return failed
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.synced = upTo
	return nil
}

// large reports whether the journal should be written anew.
func (j *journal) large() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size > j.limit
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed = os.ErrClosed
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}
