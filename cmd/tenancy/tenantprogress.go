package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/gormtenancy/tenancy/rls/lifecycle"
)

// progressLine shows how far a run is, in one line of a terminal. Elsewhere it shows nothing.
type progressLine struct {
	s     streams
	shown bool
}

const clearLine = "\r\x1b[K"

func (p *progressLine) show(at lifecycle.Progress) {
	file, ok := p.s.err.(*os.File)
	if !ok || p.s.env("TERM") == "dumb" {
		return
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return
	}
	of := ""
	if at.Total > 0 {
		of = fmt.Sprintf(" of %d (%d%%)", at.Total, 100*at.Done/at.Total)
	}
	fmt.Fprintf(p.s.err, "%s%s: %s: %d%s rows", clearLine, at.Operation, line(at.Table), at.Done, of)
	p.shown = true
}

// clear takes the line away.
func (p *progressLine) clear() {
	if p.shown {
		_, _ = io.WriteString(p.s.err, clearLine)
		p.shown = false
	}
}

// Write takes the line away before what is logged.
func (p *progressLine) Write(text []byte) (int, error) {
	p.clear()
	return p.s.err.Write(text)
}

// summary is the log that the record of the run goes to.
func (p *progressLine) summary() *slog.Logger { return slog.New(slog.NewTextHandler(p, nil)) }
