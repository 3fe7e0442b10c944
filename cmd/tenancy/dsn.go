package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// connectTimeout ends the attempt to reach a server that does not answer, unless the DSN has a connect_timeout.
const connectTimeout = 10 * time.Second

// parseDSN reads a DSN. No error holds any part of it, for where it can't be understood the password may be anywhere.
func parseDSN(dsn, source string) (*pgx.ConnConfig, error) {
	if misplacedAt(dsn) {
		return nil, fmt.Errorf("%s has an @ after the host: write special characters of a password as %%40 for @, %%2F for /, "+
			"%%3F for ?, %%23 for #, or leave it to PGPASSWORD", source)
	}
	config, err := pgx.ParseConfig(dsn)
	var file *fs.PathError
	switch {
	case errors.As(err, &file):
		return nil, fmt.Errorf("%s names a file that can't be read: %w", source, file.Err)
	case err != nil:
		return nil, fmt.Errorf("%s can't be understood (it is not shown, for it may hold a password): write "+
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

// misplacedAt recognises a URL whose password holds a character that ends the host's part: the rest of the password would
// be taken for the name of the database, which errors show.
func misplacedAt(dsn string) bool {
	_, rest, isURL := strings.Cut(dsn, "://")
	if end := strings.IndexAny(rest, "/?#"); isURL && end >= 0 {
		return strings.Contains(rest[end:], "@")
	}
	return false
}
