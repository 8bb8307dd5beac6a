package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/brumehq/brume/agent/allocdir"
)

// maxSocketDir leaves room for the names that go-plugin makes within the 100 bytes that a Unix socket's path may have.
const maxSocketDir = 60

// dirs are the places of one agent. Only the directories of allocations can be entered by other users, and only if the
// agent runs as root, because tasks may run as other users; all the rest is the agent's own.
type dirs struct {
	data    string
	node    string // key, admission, members
	keeper  string // the keeper's journal
	fifos   string // log pipes, outside what tasks can write
	allocs  string
	logs    string // of the helper processes
	sockets string // of keeper, log process and plugins
}

func newDirs(cfg Config) (dirs, error) {
	d := dirs{
		data:   cfg.DataDir,
		node:   filepath.Join(cfg.DataDir, "node"),
		keeper: filepath.Join(cfg.DataDir, "keeper"),
		fifos:  filepath.Join(cfg.DataDir, "fifos"),
		allocs: filepath.Join(cfg.DataDir, "allocs"),
		logs:   filepath.Join(cfg.DataDir, "logs"),
	}
	shared := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		shared = 0o711
	}
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{d.data, shared}, {d.allocs, shared}, {d.node, 0o700}, {d.keeper, 0o700}, {d.fifos, 0o700}, {d.logs, 0o700}} {
		if err := os.MkdirAll(dir.path, dir.mode); err != nil {
			return dirs{}, fmt.Errorf("data directory: %w", err)
		}
		if err := os.Chmod(dir.path, dir.mode); err != nil {
			return dirs{}, fmt.Errorf("data directory: %w", err)
		}
	}
	if cfg.Drivers != nil {
		return d, nil
	}
	var err error
	d.sockets, err = socketDir(cfg)
	return d, err
}

func (d dirs) database() string     { return filepath.Join(d.data, "agent.db") }
func (d dirs) key() string          { return filepath.Join(d.node, "key.pem") }
func (d dirs) admission() string    { return filepath.Join(d.node, "admission.json") }
func (d dirs) members() string      { return filepath.Join(d.node, "members.json") }
func (d dirs) keeperSocket() string { return filepath.Join(d.sockets, "keeper.sock") }
func (d dirs) sinkSocket() string   { return filepath.Join(d.sockets, "logs.sock") }

func (d dirs) alloc(id string) allocdir.Dir { return allocdir.New(filepath.Join(d.allocs, id)) }

func (d dirs) fifo(allocID string) string { return filepath.Join(d.fifos, allocID) }

// socketDir makes the directory of this agent's sockets, the same on each start: below the data directory in dev, so that
// it vanishes with it, else in the place for such things, under a name that is a digest of the data directory's path.
func socketDir(cfg Config) (string, error) {
	if dir := filepath.Join(cfg.DataDir, "run"); cfg.StopTasks && len(dir) <= maxSocketDir {
		return dir, privateDir(dir)
	}
	sum := sha256.Sum256([]byte(cfg.DataDir))
	name := hex.EncodeToString(sum[:6])
	base := filepath.Join(os.TempDir(), "brume-"+strconv.Itoa(os.Geteuid()))
	if os.Geteuid() == 0 {
		base = "/run/brume"
	} else if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" {
		base = filepath.Join(run, "brume")
	}
	if err := privateDir(base); err != nil {
		return "", err
	}
	dir := filepath.Join(base, name)
	if len(dir) > maxSocketDir {
		return "", fmt.Errorf("socket directory %s: longer than %d bytes", dir, maxSocketDir)
	}
	return dir, privateDir(dir)
}

// privateDir makes a directory that only this user can enter, or checks that an existing one is that.
func privateDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("socket directory: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("socket directory: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("socket directory %s: %w", path, errors.New("not a directory of this user"))
	}
	return os.Chmod(path, 0o700)
}
