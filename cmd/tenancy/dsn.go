package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// connectTimeout is how long to wait for a server that does not answer, unless the DSN has a connect_timeout.
const connectTimeout = 10 * time.Second

// parseDSN parses a DSN. Errors hold no part of it: in a malformed DSN the password may be anywhere.
func parseDSN(dsn, source string) (*pgx.ConnConfig, error) {
	if misplacedAt(dsn) {
		return nil, fmt.Errorf("%s has more than one @, or one after the host: write %%40 for @, %%2F for /, %%3F for ? and %%23 for # in a password, "+
			"or set PGPASSWORD", source)
	}
	config, err := pgx.ParseConfig(dsn)
	var file *fs.PathError
	switch {
	case errors.As(err, &file):
		return nil, fmt.Errorf("%s names a file that cannot be read: %w", source, file.Err)
	case err != nil:
		return nil, fmt.Errorf("%s is malformed (not shown: it may hold a password): write "+
			"postgres://user@host:5432/database?sslmode=require, with special characters as %%XX, or key=value pairs", source)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "tenancy"
	}
	return config, nil
}

// misplacedAt recognises a URL whose password holds a character that ends the password or the host. The rest of the password would be
// parsed as the host or as the name of the database, which errors show.
func misplacedAt(dsn string) bool {
	_, rest, isURL := strings.Cut(dsn, "://")
	if !isURL {
		return false
	}
	if strings.Count(rest, "@") > 1 {
		return true
	}
	end := strings.IndexAny(rest, "/?#")
	return end >= 0 && strings.Contains(rest[end:], "@")
}
