package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/rls/lifecycle"
)

func (c *tenantCommand) count(ctx context.Context, l lifecycle.Tenants) (tenantOutcome, error) {
	report, err := l.Count(ctx, c.tenant)
	return tenantOutcome{report, tablesAsText("There are", report.Tables, report.Left), exitClean, empty(report)}, err
}

// export writes beside the file, and renames what is complete: a file of that name is a whole export.
func (c *tenantCommand) export(ctx context.Context, l lifecycle.Tenants) (tenantOutcome, error) {
	if _, err := os.Lstat(c.file); err == nil {
		return tenantOutcome{}, fmt.Errorf("--file: the file exists already, and is not overwritten")
	}
	file, err := os.CreateTemp(filepath.Dir(c.file), filepath.Base(c.file)+".*.partial") // which only the user may read
	if err != nil {
		return tenantOutcome{}, inFile(c.file, err)
	}
	partial := file.Name()
	manifest, err := c.writeExport(ctx, l, file)
	if closing := file.Close(); err == nil {
		err = inFile(c.file, closing)
	}
	if err == nil {
		err = inFile(c.file, os.Rename(partial, c.file))
	}
	if err != nil {
		_ = os.Remove(partial)
		return tenantOutcome{}, err
	}
	exported := lifecycle.Report{Left: manifest.Left}
	for _, t := range manifest.Tables {
		exported.Tables = append(exported.Tables, t.Table)
	}
	return tenantOutcome{manifest, tablesAsText("Exported", exported.Tables, manifest.Left), exitClean, empty(exported)}, nil
}

func (c *tenantCommand) writeExport(ctx context.Context, l lifecycle.Tenants, file *os.File) (lifecycle.Manifest, error) {
	var w io.Writer = file
	if !strings.HasSuffix(c.file, ".gz") {
		m, err := l.Export(ctx, c.tenant, w)
		return m, err
	}
	packed := gzip.NewWriter(file)
	m, err := l.Export(ctx, c.tenant, packed)
	if err == nil {
		err = packed.Close()
	}
	return m, err
}

func (c *tenantCommand) importFile(ctx context.Context, l lifecycle.Tenants) (tenantOutcome, error) {
	file, err := os.Open(c.file)
	if err != nil {
		return tenantOutcome{}, inFile(c.file, err)
	}
	defer file.Close()
	report, err := l.Import(ctx, c.tenant, file)
	return tenantOutcome{report, tablesAsText("Imported", report.Tables, report.Left), exitClean, false}, err
}

func (c *tenantCommand) diff(ctx context.Context, l lifecycle.Tenants) (tenantOutcome, error) {
	file, err := os.Open(c.file)
	if err != nil {
		return tenantOutcome{}, inFile(c.file, err)
	}
	defer file.Close()
	differences, err := l.Diff(ctx, c.tenant, file)
	if err != nil {
		return tenantOutcome{}, err
	}
	result := tenantOutcome{append([]lifecycle.Difference{}, differences...), "No differences.\n", exitClean, false}
	if len(differences) > 0 {
		result.text, result.exit = "", exitFound
	}
	for _, d := range differences {
		result.text += fmt.Sprintf("%s: %s (file: %s, database: %s)\n", line(d.Table), line(d.Reason), rowsOf(d.File), rowsOf(d.Database))
	}
	return result, nil
}

// empty reports whether the tenant has no rows, in tables that were left out either.
func empty(r lifecycle.Report) bool {
	return r.Rows() == 0 && !slices.ContainsFunc(r.Left, func(l lifecycle.Left) bool { return l.Rows > 0 })
}

// rowsOf is a number of rows of a table that may not be there.
func rowsOf(rows int64) string {
	if rows < 0 {
		return "no table"
	}
	return strings.ToLower(count(int(rows), "row"))
}

// erase deletes nothing without --yes.
func (c *tenantCommand) erase(ctx context.Context, l lifecycle.Tenants) (tenantOutcome, error) {
	if !c.yes {
		report, err := l.PlanErase(ctx, c.tenant)
		text := tablesAsText("Would delete", report.Tables, report.Left)
		return tenantOutcome{report, text + "\nNothing was deleted. Add --yes to delete these rows.\n", exitClean, empty(report)}, err
	}
	report, err := l.Erase(ctx, c.tenant)
	text := tablesAsText("Deleted", report.Tables, report.Left)
	return tenantOutcome{report, text + "\nProved: no row of the tenant is left in these tables.\n", exitClean, empty(report)}, err
}
