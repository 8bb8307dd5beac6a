package rawexec

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brumehq/brume/plugins"
	"github.com/brumehq/brume/plugins/keeper"
)

// config is a task's config block.
type config struct {
	Command string   `codec:"command"`
	Args    []string `codec:"args"`
	WorkDir string   `codec:"work_dir"`
}

// specOf is what the keeper is asked to start for a task.
func specOf(task *plugins.TaskConfig) (keeper.Spec, error) {
	var c config
	if err := task.Decode(&c); err != nil {
		return keeper.Spec{}, fmt.Errorf("config: %w", err)
	}
	if strings.TrimSpace(c.Command) == "" {
		return keeper.Spec{}, errors.New("config: command is empty")
	}
	if c.WorkDir != "" && !filepath.IsAbs(c.WorkDir) {
		return keeper.Spec{}, fmt.Errorf("config: work_dir %s is not an absolute path", c.WorkDir)
	}
	path, err := find(c.Command, task)
	if err != nil {
		return keeper.Spec{}, err
	}
	credential, err := credentialOf(task.User)
	if err != nil {
		return keeper.Spec{}, err
	}
	dir := task.TaskDir()
	if c.WorkDir != "" {
		dir = c.WorkDir
	}
	return keeper.Spec{
		ID: task.ID, Path: path, Argv: append([]string{c.Command}, c.Args...), Env: environ(task.Env), Dir: dir,
		Stdout: task.StdoutPath, Stderr: task.StderrPath, User: credential, OOMScoreAdj: int(task.Resources.OOMScoreAdj),
	}, nil
}

func environ(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// defaultPath is where programs are looked for if the task has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// find returns the program that command names: in the task's directory, or by the task's PATH if it is a mere name.
func find(command string, task *plugins.TaskConfig) (string, error) {
	if filepath.IsAbs(command) {
		return command, nil // the keeper's exec knows best
	}
	local := filepath.Join(task.TaskDir(), command)
	if program(local) || strings.Contains(command, "/") {
		return local, nil
	}
	path, ok := task.Env["PATH"]
	if !ok {
		path = defaultPath
	}
	for _, dir := range filepath.SplitList(path) {
		if candidate := filepath.Join(dir, command); filepath.IsAbs(dir) && program(candidate) {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("command %s is neither in the task's directory nor in its PATH (%s)", command, path)
}

func program(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && unix.Access(path, unix.X_OK) == nil
}

// credentialOf is the user of that name or number; nil is the driver's own.
func credentialOf(name string) (*keeper.Credential, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if unknown, byNumber := user.UnknownUserError(""), isNumber(name); err != nil && errors.As(err, &unknown) && byNumber {
		u, err = user.LookupId(name)
	}
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	if int(uid) == os.Geteuid() && os.Geteuid() != 0 {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("user %s: the agent runs as user %d, and only as root can it start tasks as others", name, os.Geteuid())
	}
	c := &keeper.Credential{UID: uint32(uid), GID: uint32(gid)}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %s: %w", name, err)
	}
	for _, g := range groups {
		n, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("groups of user %s: %w", name, err)
		}
		c.Groups = append(c.Groups, uint32(n))
	}
	return c, nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}
