package main

import (
	"context"
	"runtime"

	"gorm.io/gorm"
)

// memory measures how much is alive on the heap while rows are read: one by one, and, to compare, all into a slice.
func (b *bench) memory(ctx context.Context) error {
	for _, v := range pick("plain", "tenancy", "OpenDB") {
		for _, rows := range []int{each, bigRows} {
			streamed, err := b.peak(ctx, v, rows, true)
			if err != nil {
				return err
			}
			collected, err := b.peak(ctx, v, rows, false)
			if err != nil {
				return err
			}
			b.results.Memory = append(b.results.Memory,
				memory{Variant: v.Name, How: "streamed", Rows: rows, Peak: streamed},
				memory{Variant: v.Name, How: "collected", Rows: rows, Peak: collected})
		}
	}
	return nil
}

// peak is the most that was alive while the rows of a tenant were read, beyond what was alive before. It is looked at
// twenty times on the way, after a garbage collection each.
func (b *bench) peak(ctx context.Context, v variant, rows int, streamed bool) (peak int64, err error) {
	const looks = 20
	var ends closer
	defer ends.close(&err)
	ctx, cancel := context.WithCancel(ctx)
	ends.add(func() error { cancel(); return nil })
	d, err := b.database(ctx, v)
	if err != nil {
		return 0, err
	}
	c, err := v.open(d.App.DSN, true, 1)
	if err != nil {
		return 0, err
	}
	ends.add(c.close)
	tenant := reader
	if rows == bigRows {
		tenant = big
	}
	s := c.as(ctx, tenant)

	look := func() {}
	read := stream(rows, func(n int) {
		if n%(rows/looks) == 0 {
			look()
		}
	})
	if !streamed {
		read = func(s *session, db *gorm.DB, _ int) error {
			var all []Patient
			err := s.mine(db).Find(&all).Error
			look()
			runtime.KeepAlive(all)
			return err
		}
	}
	run := func(int) error {
		return s.do(false, func(db *gorm.DB) error { return read(s, db, 0) })
	}
	if err := warm(run); err != nil {
		return 0, err
	}
	before := alive()
	look = func() { peak = max(peak, alive()-before) }
	err = run(0)
	return peak, err
}

// alive is what the heap holds that is still in use.
func alive() int64 {
	runtime.GC()
	runtime.GC() // a sync.Pool keeps for one collection what it held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
