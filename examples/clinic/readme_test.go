package main

import (
	"testing"

	"github.com/gormtenancy/tenancy/examples/internal/readme"
)

func TestReadme(t *testing.T) {
	readme.Start(t).Check(t, "README.md")
}
