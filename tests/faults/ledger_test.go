package faults

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
)

// outcome is what a fault came to.
type outcome int

const (
	succeeded outcome = iota // all was done, perhaps on another connection
	undone                   // an error, and nothing was applied
	unknown                  // an error, though all was applied: the answer to the commit was lost
)

// ledger counts what was injected.
type ledger struct {
	mu     sync.Mutex
	counts map[string]*[unknown + 1]int
}

var book = ledger{counts: map[string]*[unknown + 1]int{}}

func (l *ledger) note(fault string, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts[fault] == nil {
		l.counts[fault] = new([unknown + 1]int)
	}
	l.counts[fault][o]++
}

const (
	beginTable = "<!-- table: begin -->\n"
	endTable   = "<!-- table: end -->\n"
)

// table is the ledger in Markdown.
func (l *ledger) table() string {
	var b strings.Builder
	b.WriteString("\n| fault | injected | error, nothing applied | error, all applied | success |\n|---|---:|---:|---:|---:|\n")
	var sums [unknown + 1]int
	for _, name := range l.names() {
		c := l.counts[name]
		for o := range sums {
			sums[o] += c[o]
		}
		row(&b, name, *c)
	}
	row(&b, "**all**", sums)
	b.WriteString("\n")
	return b.String()
}

func row(b *strings.Builder, name string, c [unknown + 1]int) {
	fmt.Fprintf(b, "| %s | %d | %d | %d | %d |\n", name, c[succeeded]+c[undone]+c[unknown], c[undone], c[unknown], c[succeeded])
}

func (l *ledger) names() []string {
	var names []string
	for name := range l.counts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// compare returns an error unless the document lists the faults that were injected. With update it writes the table.
func (l *ledger) compare(document string, update bool) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, begun := strings.Cut(string(text), beginTable)
	table, after, ended := strings.Cut(rest, endTable)
	if !begun || !ended {
		return fmt.Errorf("%s has no table", document)
	}
	if update {
		return os.WriteFile(document, []byte(before+beginTable+l.table()+endTable+after), 0o644) //nolint:gosec // a document
	}
	var listed []string
	for line := range strings.Lines(table) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok && name != "fault" && name != "**all**" {
			listed = append(listed, name)
		}
	}
	if injected := l.names(); !slices.Equal(listed, injected) {
		return fmt.Errorf("%s lists other faults than were injected: run go test ./tests/faults -update\nlisted:   %q\ninjected: %q",
			document, listed, injected)
	}
	return nil
}
