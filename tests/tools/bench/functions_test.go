package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResponsible(t *testing.T) {
	stack := []string{
		"runtime.mallocgc", "internal/poll.(*FD).Write", "net.(*conn).Write", "github.com/jackc/pgx/v5/pgconn.(*PgConn).ExecBatch",
	}
	require.Equal(t, "net.(*conn).Write", responsible(stack))
	require.Equal(t, noPackage, responsible([]string{"runtime.findRunnable", "runtime.schedule"}))
	require.Equal(t, "the guard", packageOf("github.com/gormtenancy/tenancy/internal/guard.(*conn).query"))
	require.Equal(t, "the plugin", packageOf("github.com/gormtenancy/tenancy.(*Plugin).query"))
}

func TestShortName(t *testing.T) {
	for long, short := range map[string]string{
		"github.com/gormtenancy/tenancy/internal/guard.(*conn).query":                       "guard.(*conn).query",
		"github.com/gormtenancy/tenancy/internal/guard.scanInto[go.shape.struct {…}].func1": "guard.scanInto[…].func1",
		"github.com/jackc/pgx/v5.RowsFromResultReader":                                      "pgx.RowsFromResultReader",
		"github.com/jackc/pgx/v5/pgconn.(*Batch).ExecStatement":                             "pgconn.(*Batch).ExecStatement",
		"gorm.io/gorm.(*DB).First":                                                          "gorm.(*DB).First",
		"slices.Clone[...]":                                                                 "slices.Clone[…]",
		noPackage:                                                                           noPackage,
	} {
		require.Equal(t, short, shortName(long))
	}
}

func TestBreakdownPutsWhatThePluginHasMoreOfFirst(t *testing.T) {
	p := perFunction{}
	p.add("gorm.io/gorm.(*DB).Where", "plain", 3)
	p.add("github.com/gormtenancy/tenancy/internal/guard.(*conn).query", "tenancy", 2)
	p.add("gorm.io/gorm.(*DB).First", "plain", 1)
	p.add("gorm.io/gorm.(*DB).First", "tenancy", 1)
	b := p.breakdown()
	require.Equal(t, []share{
		{"guard.(*conn).query", map[string]float64{"tenancy": 2}},
		{"gorm.(*DB).First", map[string]float64{"plain": 1, "tenancy": 1}},
		{"gorm.(*DB).Where", map[string]float64{"plain": 3}},
	}, b.Functions)
	require.Equal(t, []share{
		{"the guard", map[string]float64{"tenancy": 2}},
		{"GORM", map[string]float64{"plain": 4, "tenancy": 1}},
	}, b.Packages)
}
