package localdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/brumehq/brume/api"
)

// ErrClosed is what a write to a closed database returns.
var ErrClosed = errors.New("local database is closed")

// version of the records; an agent refuses a database that a newer one has written.
const version = 1

// lockWait is how long Open waits for another process to let go of the file.
const lockWait = time.Second

// maxBatch is how many records share a commit at most.
const maxBatch = 512

var (
	metaBucket   = []byte("meta")
	allocBucket  = []byte("allocs")
	taskBucket   = []byte("tasks")
	pluginBucket = []byte("plugins")
	versionKey   = []byte("version")
)

// Alloc is an allocation as the agent last knew it.
type Alloc struct {
	Alloc   *api.Allocation // with its Job
	Healthy *bool
	Ended   int64 // unix nanoseconds when its last task had ended; 0 while any is alive
}

// Task is one task of an allocation. ID and Driver are stored before the driver is asked to start it (the intent),
// Handle before the task is called running, Exit before the driver may forget it.
type Task struct {
	Name    string
	ID      string
	Driver  string
	Handle  json.RawMessage `json:",omitempty"` // of the agent's driver client; nil while only intended
	Exit    json.RawMessage `json:",omitempty"` // how the run of ID ended; nil while it runs or has not begun
	State   api.TaskState
	Restart Restart
}

// Restart is how many restarts of a task's policy are used up.
type Restart struct {
	Count int
	Since time.Time // when the interval began
	Next  time.Time // not before this does the task start again
}

// Record is an allocation with its tasks.
type Record struct {
	Alloc
	Tasks map[string]*Task
}

// DB is an open database.
type DB struct {
	bolt   *bbolt.DB
	writes chan write
	done   chan struct{} // closed when the writer has ended

	mu     sync.RWMutex // guards closed against writes in flight
	closed bool
}

type write struct {
	apply func(*bbolt.Tx) error
	err   chan<- error
}

// Open opens or makes the database at path; its errors name the path. Only one process can have it open.
func Open(path string) (*DB, error) {
	bolt, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("local database %s: in use by another agent", path)
	}
	if err != nil {
		return nil, fmt.Errorf("local database %s: %w", path, err)
	}
	if err := bolt.Update(prepare); err != nil {
		return nil, errors.Join(fmt.Errorf("local database %s: %w", path, err), bolt.Close())
	}
	db := &DB{bolt: bolt, writes: make(chan write, maxBatch), done: make(chan struct{})}
	go db.write()
	return db, nil
}

func prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{metaBucket, allocBucket, taskBucket, pluginBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(metaBucket)
	if have := meta.Get(versionKey); have != nil {
		var v int
		if err := json.Unmarshal(have, &v); err != nil {
			return fmt.Errorf("version: %w", err)
		}
		if v > version {
			return fmt.Errorf("written by a newer agent (format %d, this one knows %d)", v, version)
		}
	}
	return putJSON(meta, versionKey, version)
}

// Close waits for the writes in flight and closes the file.
func (db *DB) Close() error {
	db.mu.Lock()
	was := db.closed
	db.closed = true
	db.mu.Unlock()
	if was {
		return nil
	}
	close(db.writes)
	<-db.done
	return db.bolt.Close()
}

// PutAlloc stores an allocation.
func (db *DB) PutAlloc(a *Alloc) error {
	value, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("allocation %s: %w", a.Alloc.ID, err)
	}
	return db.do(func(tx *bbolt.Tx) error { return tx.Bucket(allocBucket).Put([]byte(a.Alloc.ID), value) })
}

// PutTask stores a task of an allocation.
func (db *DB) PutTask(allocID string, t *Task) error {
	value, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("task %s of %s: %w", t.Name, allocID, err)
	}
	return db.do(func(tx *bbolt.Tx) error { return tx.Bucket(taskBucket).Put(taskKey(allocID, t.Name), value) })
}

// DeleteAlloc removes an allocation and its tasks.
func (db *DB) DeleteAlloc(id string) error {
	return db.do(func(tx *bbolt.Tx) error {
		c := tx.Bucket(taskBucket).Cursor()
		prefix := taskKey(id, "")
		for k, _ := c.Seek(prefix); hasPrefix(k, prefix); k, _ = c.Seek(prefix) {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return tx.Bucket(allocBucket).Delete([]byte(id))
	})
}

// Allocs reads all allocations with their tasks.
func (db *DB) Allocs() ([]*Record, error) {
	var out []*Record
	err := db.bolt.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(allocBucket).ForEach(func(id, value []byte) error {
			r := &Record{Tasks: make(map[string]*Task)}
			if err := json.Unmarshal(value, &r.Alloc); err != nil {
				return fmt.Errorf("allocation %s: %w", id, err)
			}
			prefix := taskKey(string(id), "")
			c := tx.Bucket(taskBucket).Cursor()
			for k, v := c.Seek(prefix); hasPrefix(k, prefix); k, v = c.Next() {
				t := new(Task)
				if err := json.Unmarshal(v, t); err != nil {
					return fmt.Errorf("task %s: %w", k, err)
				}
				r.Tasks[t.Name] = t
			}
			out = append(out, r)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("local database %s: %w", db.bolt.Path(), err)
	}
	return out, nil
}

// PutPlugin stores how to reach a running plugin; nil forgets it.
func (db *DB) PutPlugin(name string, reattach any) error {
	return db.do(func(tx *bbolt.Tx) error {
		b := tx.Bucket(pluginBucket)
		if reattach == nil {
			return b.Delete([]byte(name))
		}
		return putJSON(b, []byte(name), reattach)
	})
}

// Plugin reads what PutPlugin stored into reattach and reports whether there was anything.
func (db *DB) Plugin(name string, reattach any) (bool, error) {
	found := false
	err := db.bolt.View(func(tx *bbolt.Tx) error {
		value := tx.Bucket(pluginBucket).Get([]byte(name))
		if value == nil {
			return nil
		}
		found = true
		return json.Unmarshal(value, reattach)
	})
	if err != nil {
		return false, fmt.Errorf("local database %s: plugin %s: %w", db.bolt.Path(), name, err)
	}
	return found, nil
}

// do hands a change to the writer and waits until it is on disk.
func (db *DB) do(apply func(*bbolt.Tx) error) error {
	err := make(chan error, 1)
	db.mu.RLock()
	if db.closed {
		db.mu.RUnlock()
		return ErrClosed
	}
	db.writes <- write{apply, err}
	db.mu.RUnlock()
	return <-err
}

// write commits what has come together, again and again, until the channel is closed.
func (db *DB) write() {
	defer close(db.done)
	for w := range db.writes {
		batch := []write{w}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case w, ok := <-db.writes:
				if more = ok; ok {
					batch = append(batch, w)
				}
			default:
				more = false
			}
		}
		err := db.bolt.Update(func(tx *bbolt.Tx) error {
			for _, w := range batch {
				if err := w.apply(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			err = fmt.Errorf("local database %s: %w", db.bolt.Path(), err)
		}
		for _, w := range batch {
			w.err <- err
		}
	}
}

func taskKey(allocID, name string) []byte { return []byte(allocID + "/" + name) }

func hasPrefix(k, prefix []byte) bool {
	return len(k) >= len(prefix) && string(k[:len(prefix)]) == string(prefix)
}

func putJSON(b *bbolt.Bucket, key []byte, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return b.Put(key, data)
}
