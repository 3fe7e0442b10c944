package main

import (
	"testing"

	"github.com/gormtenancy/tenancy/examples/internal/readme"
)

// TestReadme runs the steps of the README.
func TestReadme(t *testing.T) { readme.Start(t).Check(t, "README.md") }
