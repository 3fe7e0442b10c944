package main

import (
	"context"
	"os"
	"strings"
)

// txtResolver is the part of *net.Resolver that is needed.
type txtResolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// txtFile is a file of TXT records: on each line a name, a space, and a value.
type txtFile string

// LookupTXT reads the file each time. A file that does not exist has no records.
func (f txtFile) LookupTXT(_ context.Context, name string) (values []string, err error) {
	text, err := os.ReadFile(string(f))
	if os.IsNotExist(err) {
		return nil, nil
	}
	for line := range strings.Lines(string(text)) {
		if owner, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && owner == name {
			values = append(values, value)
		}
	}
	return values, err
}
