package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

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

// summaries is the log that the records of runs go to. It keeps those of runs that failed until the error of the command is known: what that says,
// they do not say again.
type summaries struct {
	slog.Handler
	failed *[]slog.Record
}

func (p *progressLine) summaries() summaries {
	return summaries{slog.NewTextHandler(p, nil), new([]slog.Record)}
}

// Handle writes the record of a run that has succeeded.
func (s summaries) Handle(ctx context.Context, r slog.Record) error {
	if errorIn(r) != "" {
		*s.failed = append(*s.failed, r.Clone())
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

// end writes the records that were kept. Err is the error of the command, or nil.
func (s summaries) end(ctx context.Context, err error) {
	for _, r := range *s.failed {
		text := strings.TrimPrefix(errorIn(r), "tenancy: ")
		if err == nil || !strings.Contains(err.Error(), text) {
			_ = s.Handler.Handle(ctx, r)
			continue
		}
		short := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "error" {
				a = slog.Bool("failed", true)
			}
			short.AddAttrs(a)
			return true
		})
		_ = s.Handler.Handle(ctx, short)
	}
}

// errorIn returns the error in the record of a run. It is empty if the run has succeeded.
func errorIn(r slog.Record) string {
	text := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			text = a.Value.String()
		}
		return text == ""
	})
	return text
}
