package main

import (
	"os"
	"strings"
	"unicode"

	"github.com/gormtenancy/tenancy/rls/check"
)

// palette holds the escape sequences for a terminal. They are empty for other outputs.
type palette struct {
	bold, dim, reset string
	severity         map[check.Severity]string
}

// colours are those of a terminal.
var colours = palette{
	bold: "\x1b[1m", dim: "\x1b[2m", reset: "\x1b[0m",
	severity: map[check.Severity]string{
		check.Critical: "\x1b[1;31m", check.High: "\x1b[31m", check.Medium: "\x1b[33m", check.Low: "\x1b[36m",
	},
}

// paletteFor returns colours if the output is a terminal whose user has not declined them (https://no-color.org).
func paletteFor(s streams) palette {
	file, ok := s.out.(*os.File)
	if !ok || s.env("NO_COLOR") != "" || s.env("TERM") == "dumb" {
		return palette{}
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return palette{}
	}
	return colours
}

// printable replaces control characters, so that a name from the catalog cannot control the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsGraphic(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
