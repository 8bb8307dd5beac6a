package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/identity"
)

// Files of a hub's data directory that its operator uses.
const (
	AdminTokenFile = "admin.token" // the secret of the first API token
	CAFile         = "ca.crt"      // what the hub's certificate chains to, PEM
)

// dataDir is the directory of one hub. Its files are readable by their owner only:
//
//	hub.json     what a start without flags needs; its presence means that the hub belongs to a cluster
//	lock         held while the hub runs
//	node.key     the hub's identity; node.crt and ca.crt certify it
//	cluster.key  opens what Raft keeps sealed; never in log or snapshot
//	genesis      the first entries of a new cluster, until they are committed
//	admin.token  the first API token, for the operator to take
//	raft/        log and snapshots
type dataDir struct {
	path string
	lock *os.File
}

// remembered is the content of hub.json. Addresses are as bound, so that a restart finds the same ports.
type remembered struct {
	Name       string
	Region     string
	Datacenter string
	HTTP       string
	RPC        string
	Gossip     string
}

// openDataDir makes the directory if need be and takes its lock: a second hub on it is an error.
func openDataDir(path string) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: data directory %s is in use by another hub", api.ErrConflict, path), lock.Close())
	}
	return &dataDir{path: path, lock: lock}, nil
}

// Close gives the lock back.
func (d *dataDir) Close() error { return d.lock.Close() }

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// recall reads hub.json; ok is false when there is none, so no cluster.
func (d *dataDir) recall() (r remembered, ok bool, err error) {
	err = d.readJSON("hub.json", &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	return r, err == nil, err
}

func (d *dataDir) readJSON(name string, v any) error {
	raw, err := os.ReadFile(d.file(name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w", d.file(name), err)
	}
	return nil
}

func (d *dataDir) writeJSON(name string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", d.file(name), err)
	}
	return d.write(name, append(raw, '\n'))
}

// write replaces a file whole and durably, readable by its owner only.
func (d *dataDir) write(name string, content []byte) error {
	return identity.WriteFile(d.file(name), content)
}

// complete checks that the files which cannot be made again are there, so that none is made anew beside a state that needs
// the old one.
func (d *dataDir) complete() error {
	for _, name := range []string{"node.key", "cluster.key", "node.crt", CAFile} {
		if _, err := os.Stat(d.file(name)); err != nil {
			return fmt.Errorf("data directory of a cluster: %w: restore it from a backup", err)
		}
	}
	return nil
}

// remove deletes a file durably; it may be gone already.
func (d *dataDir) remove(name string) error {
	if err := os.Remove(d.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
