package allocdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Names inside an allocation's directory.
const (
	Shared  = "alloc"   // shared by the group's tasks: data, logs, tmp
	Logs    = "logs"    // in Shared
	Local   = "local"   // in a task's directory
	Secrets = "secrets" // in a task's directory: in memory where the agent may mount
)

// secretsSize bounds a task's secrets held in memory.
const secretsSize = "size=1m"

// Dir is the directory of one allocation.
type Dir struct{ path string }

// New names the directory at path; Build makes it.
func New(path string) Dir { return Dir{path} }

// Path is where the directory is.
func (d Dir) Path() string { return d.path }

// SharedDir is the directory that all tasks of the allocation share.
func (d Dir) SharedDir() string { return filepath.Join(d.path, Shared) }

// TaskDir is a task's own directory.
func (d Dir) TaskDir(task string) string { return filepath.Join(d.path, task) }

// LocalDir is where a task keeps its own files.
func (d Dir) LocalDir(task string) string { return filepath.Join(d.path, task, Local) }

// SecretsDir is a task's secrets directory.
func (d Dir) SecretsDir(task string) string { return filepath.Join(d.path, task, Secrets) }

// Build makes the allocation's directory and the shared part of it. What exists stays.
func (d Dir) Build() error {
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range []string{Shared, Shared + "/" + Logs, Shared + "/data", Shared + "/tmp"} {
		if err := mkdir(root, name, 0o777); err != nil {
			return err
		}
	}
	return nil
}

// BuildTask makes a task's directory and reports whether its secrets are held in memory only: that needs the right to
// mount. Otherwise they are in a plain directory that only the agent's user can read, or the task's user if it is known.
func (d Dir) BuildTask(task, userName string) (inMemory bool, err error) {
	alloc, err := os.OpenRoot(d.path)
	if err != nil {
		return false, err
	}
	defer alloc.Close()
	if err := mkdir(alloc, task, 0o777); err != nil {
		return false, err
	}
	root, err := alloc.OpenRoot(task)
	if err != nil {
		return false, err
	}
	defer root.Close()
	if err := mkdir(root, Local, 0o777); err != nil {
		return false, err
	}
	if err := mkdir(root, "tmp", 0o777|fs.ModeSticky); err != nil {
		return false, err
	}
	if err := mkdir(root, "private", 0o700); err != nil {
		return false, err
	}
	return secrets(root, userName)
}

// Unmount takes away what Build mounted: the secrets of the given tasks are gone then.
func (d Dir) Unmount(tasks ...string) error {
	var errs []error
	for _, task := range tasks {
		err := unix.Unmount(d.SecretsDir(task), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		// EINVAL: nothing is mounted there. EPERM: whoever may not mount has mounted nothing.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", d.SecretsDir(task), err))
		}
	}
	return errors.Join(errs...)
}

// Remove unmounts and removes the whole directory.
func (d Dir) Remove() error {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var tasks []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != Shared {
			tasks = append(tasks, e.Name())
		}
	}
	if err := d.Unmount(tasks...); err != nil {
		return err
	}
	return os.RemoveAll(d.path)
}

// mkdir makes a directory of exactly that mode; one that exists stays as it is.
func mkdir(root *os.Root, name string, mode fs.FileMode) error {
	err := root.Mkdir(name, mode&fs.ModePerm)
	if errors.Is(err, fs.ErrExist) {
		info, err := root.Lstat(name)
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "mkdir", Path: name, Err: unix.ENOTDIR}
		}
		return err
	}
	if err != nil {
		return err
	}
	return root.Chmod(name, mode)
}

// secrets makes the secrets directory of the task in root.
func secrets(root *os.Root, userName string) (inMemory bool, err error) {
	if err := mkdir(root, Secrets, 0o700); err != nil {
		return false, err
	}
	dir, err := root.OpenFile(Secrets, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	if os.Geteuid() != 0 {
		return false, nil
	}
	var have unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &have); err != nil {
		return false, err
	}
	if own, err := mounted(root, dir); err != nil {
		return false, err
	} else if own {
		return have.Type == unix.TMPFS_MAGIC, nil
	}
	// By descriptor, not by path: a task of the same group cannot lead the mount elsewhere.
	at := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd()))
	mode, uid, gid := "0777", 0, 0
	if u, err := user.Lookup(userName); userName != "" && err == nil {
		uid, _ = strconv.Atoi(u.Uid)
		gid, _ = strconv.Atoi(u.Gid)
		mode = "0700"
	}
	options := fmt.Sprintf("%s,mode=%s,uid=%d,gid=%d", secretsSize, mode, uid, gid)
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err == nil {
		return true, nil
	}
	if mode == "0700" {
		return false, dir.Chown(uid, gid)
	}
	return false, dir.Chmod(0o777)
}

// mounted reports whether dir, which lies directly in root, is on another file system than root.
func mounted(root *os.Root, dir *os.File) (bool, error) {
	parent, err := root.Open(".")
	if err != nil {
		return false, err
	}
	defer parent.Close()
	var up, down unix.Stat_t
	if err := unix.Fstat(int(parent.Fd()), &up); err != nil {
		return false, err
	}
	if err := unix.Fstat(int(dir.Fd()), &down); err != nil {
		return false, err
	}
	return up.Dev != down.Dev, nil
}
