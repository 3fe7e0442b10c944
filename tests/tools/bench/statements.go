package main

import (
	"context"
	"strconv"
	"time"

	"gorm.io/gorm"
)

// statements measures more and more statements of different text in turn. pgx keeps 512 prepared by default, and the
// guard as many; what does not fit is prepared anew.
func (b *bench) statements(ctx context.Context) (err error) {
	numbers := []int{1, 8, 64, 256, 512, 768}
	var ends closer
	defer ends.close(&err)
	ctx, cancel := context.WithCancel(ctx)
	ends.add(func() error { cancel(); return nil })

	var runs []func(int) error
	var sessions []*session
	for _, number := range numbers {
		for _, v := range curve {
			d, err := b.database(ctx, v)
			if err != nil {
				return err
			}
			c, err := v.open(d.App.DSN, true, 1)
			if err != nil {
				return err
			}
			ends.add(c.close)
			s := c.as(ctx, reader)
			run := func(n int) error { return s.do(false, firstBy(s, n, number)) }
			for n := range number { // each is prepared
				if err := run(n); err != nil {
					return err
				}
			}
			runs, sessions = append(runs, run), append(sessions, s)
		}
	}
	took, err := b.takeTurns(ctx, b.either(12*time.Second, 2*time.Second), runs)
	if err != nil {
		return err
	}
	points := make([]point, len(numbers))
	for i, number := range numbers {
		points[i] = point{size: number, tenants: tenants}
	}
	b.results.Statements = b.growth("First", points, took)
	for i, s := range sessions {
		if b.results.Statements[i].Prepared, err = s.prepared(); err != nil {
			return err
		}
	}
	return nil
}

// firstBy is First, in one of so many texts.
func firstBy(s *session, n, texts int) func(db *gorm.DB) error {
	return func(db *gorm.DB) error {
		var p Patient
		return s.mine(db).Where("age > -"+strconv.Itoa(1+n%texts)).First(&p, idOf(s.tenant, n)).Error
	}
}

// prepared asks the server how many statements it holds for the connection.
func (s *session) prepared() (count int, err error) {
	err = s.do(false, func(db *gorm.DB) error {
		return db.Raw("SELECT count(*) FROM pg_prepared_statements").Scan(&count).Error
	})
	return count, err
}
