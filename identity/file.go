package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// WriteFile puts data in path so that a reader, or a start after a crash, finds the old content or the new one, never
// a part: it writes a temporary file beside it (mode 0600), syncs it, renames it and syncs the directory. A missing
// directory is made with mode 0700.
func WriteFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	tmp, err := writeTemp(dir, filepath.Base(path), data)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncDir(dir)
}

// createFile is WriteFile for a path that must not exist yet; it returns fs.ErrExist if it does, so that of two
// processes that start together one makes the file and both use it.
func createFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	tmp, err := writeTemp(dir, filepath.Base(path), data)
	if err != nil {
		return err
	}
	err = os.Link(tmp, path)
	if err := errors.Join(err, os.Remove(tmp)); err != nil {
		return err
	}
	return syncDir(dir)
}

// loadOrCreate reads the secret file at path; if there is none it makes one of what create returns.
func loadOrCreate(path string, create func() ([]byte, error)) ([]byte, error) {
	data, err := readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if data, err = create(); err != nil {
		return nil, err
	}
	switch err := createFile(path, data); {
	case errors.Is(err, fs.ErrExist):
		return readSecret(path)
	case err != nil:
		return nil, err
	}
	return data, nil
}

// readSecret reads a file that only its owner may be able to read.
func readSecret(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := st.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode %#o lets others at it, want %#o", path, mode, fileMode)
	}
	return os.ReadFile(path)
}

// writeTemp makes a synced temporary file of mode 0600 in dir and returns its path; it leaves none on error.
func writeTemp(dir, base string, data []byte) (string, error) {
	f, err := os.CreateTemp(dir, "."+base+".*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
