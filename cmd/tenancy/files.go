package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// looksLikeDSN reports whether a text may be a DSN, whose password must not be shown.
func looksLikeDSN(text string) bool {
	return strings.ContainsAny(text, "@=") || strings.Contains(text, "://") || strings.Contains(text, "password")
}

// isFile reports whether an argument names a file rather than a database.
func isFile(argument string) bool {
	if !looksLikeDSN(argument) {
		return true
	}
	_, err := os.Stat(argument)
	return err == nil
}

// inFile adds the name of a file to an error, unless it may be a DSN. The name that package os adds is left out.
func inFile(path string, err error) error {
	if err == nil {
		return nil
	}
	var inPath *fs.PathError
	var inLink *os.LinkError
	switch {
	case errors.As(err, &inPath):
		err = inPath.Err
	case errors.As(err, &inLink):
		err = inLink.Err
	}
	if looksLikeDSN(path) {
		return fmt.Errorf("the file (not shown: its name looks like a DSN): %w", err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
