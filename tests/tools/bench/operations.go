package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"gorm.io/gorm"
)

// operation is something that an application does for a tenant.
type operation struct {
	Name       string `json:"name"`
	Title      string `json:"title"`
	Statements int    `json:"statements"`
	// Single says that it is one statement and no transaction, Written that it is one write in GORM's default one.
	Single  bool `json:"single"`
	Written bool `json:"written"`

	skipTx bool // gorm.Config.SkipDefaultTransaction
	writes int  // rows
	tenant string
	// prepare makes what do needs, and what ends it; do is called with ascending numbers.
	prepare func(ctx context.Context, c *client, tenant string) (do func(n int) error, end func(), err error)
}

var operations = []operation{
	{
		Name: "First", Title: "First by primary key", Statements: 1, Single: true,
		skipTx: true, tenant: reader, prepare: simply(false, first),
	}, {
		Name: "Find100", Title: "Find, 100 rows", Statements: 1, Single: true,
		skipTx: true, tenant: reader, prepare: simply(false, find),
	}, {
		Name: "Rows10000", Title: "Rows, 10,000 rows streamed", Statements: 1, Single: true,
		skipTx: true, tenant: big, prepare: simply(false, stream(bigRows, nil)),
	}, {
		Name: "Create", Title: "Create, `SkipDefaultTransaction`", Statements: 1, Single: true,
		skipTx: true, writes: 1, tenant: writer, prepare: simply(false, create),
	}, {
		Name: "CreateInTx", Title: "Create, default transaction", Statements: 1, Written: true,
		writes: 1, tenant: writer, prepare: simply(false, create),
	}, {
		Name: "Create100", Title: "Create of 100 rows, `SkipDefaultTransaction`", Statements: 1, Single: true,
		skipTx: true, writes: 100, tenant: writer, prepare: simply(false, createBatch),
	}, {
		Name: "Update", Title: "Update of a column, `SkipDefaultTransaction`", Statements: 1, Single: true,
		skipTx: true, tenant: writer, prepare: simply(false, update),
	}, {
		Name: "Transaction5", Title: "Transaction of 5 statements", Statements: 5,
		skipTx: true, writes: 1, tenant: writer, prepare: simply(true, five),
	}, {
		Name: "HTTP4", Title: "HTTP request of 4 statements", Statements: 4,
		tenant: writer, prepare: request,
	},
}

func operationNamed(name string) operation {
	for _, op := range operations {
		if op.Name == name {
			return op
		}
	}
	panic("no operation " + name)
}

// simply is an operation that needs no preparation.
func simply(tx bool, f func(s *session, db *gorm.DB, n int) error) func(context.Context, *client, string) (func(int) error, func(), error) {
	return func(ctx context.Context, c *client, tenant string) (func(int) error, func(), error) {
		s := c.as(ctx, tenant)
		do := func(n int) error {
			return s.do(tx, func(db *gorm.DB) error { return f(s, db, n) })
		}
		return do, func() {}, nil
	}
}

func first(s *session, db *gorm.DB, n int) error {
	var p Patient
	return s.mine(db).First(&p, idOf(s.tenant, n)).Error
}

func find(s *session, db *gorm.DB, _ int) error {
	var all []Patient
	if err := s.mine(db).Find(&all).Error; err != nil {
		return err
	}
	return want(len(all), each)
}

func want(rows, wanted int) error {
	if rows != wanted {
		return fmt.Errorf("%d rows, want %d", rows, wanted)
	}
	return nil
}

// stream reads rows one by one, and calls seen, if there is one, after each.
func stream(rows int, seen func(n int)) func(s *session, db *gorm.DB, n int) error {
	return func(s *session, db *gorm.DB, _ int) error {
		cursor, err := s.mine(db.Model(&Patient{})).Rows()
		if err != nil {
			return err
		}
		defer cursor.Close()
		read := 0
		for ; cursor.Next(); read++ {
			var p Patient
			if err := db.ScanRows(cursor, &p); err != nil {
				return err
			}
			if seen != nil {
				seen(read)
			}
		}
		if err := cursor.Err(); err != nil {
			return err
		}
		return want(read, rows)
	}
}

func (s *session) newPatient() Patient {
	return Patient{TenantID: s.owner(), Name: "New", Email: "new@example.com", Age: 42}
}

func create(s *session, db *gorm.DB, _ int) error {
	p := s.newPatient()
	return db.Create(&p).Error
}

func createBatch(s *session, db *gorm.DB, _ int) error {
	all := make([]Patient, 100)
	for i := range all {
		all[i] = s.newPatient()
	}
	return db.Create(&all).Error
}

func update(s *session, db *gorm.DB, n int) error {
	done := s.mine(db.Model(&Patient{}).Where("id = ?", idOf(s.tenant, n))).Update("age", n%100)
	if done.Error != nil {
		return done.Error
	}
	return want(int(done.RowsAffected), 1)
}

// five is two reads and three writes.
func five(s *session, db *gorm.DB, n int) error {
	for _, f := range []func(*session, *gorm.DB, int) error{first, update, create, first, update} {
		if err := f(s, db, n); err != nil {
			return err
		}
	}
	return nil
}

// page is what a web page needs: a row, some others, how many there are; and a write, in GORM's default transaction.
func page(s *session, db *gorm.DB, n int) error {
	if err := first(s, db, n); err != nil {
		return err
	}
	var some []Patient
	if err := s.mine(db).Order("id").Limit(10).Find(&some).Error; err != nil {
		return err
	}
	var count int64
	if err := s.mine(db.Model(&Patient{})).Count(&count).Error; err != nil {
		return err
	}
	return update(s, db, n)
}

// request is an HTTP request to a server in this process.
func request(_ context.Context, c *client, tenant string) (func(n int) error, func(), error) {
	const header = "X-Tenant-Id"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		_, err := fmt.Sscan(r.URL.Query().Get("n"), &n)
		if err == nil {
			s := c.as(r.Context(), r.Header.Get(header))
			err = s.do(false, func(db *gorm.DB) error { return page(s, db, n) })
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	do := func(n int) error {
		r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("%s?n=%d", server.URL, n), http.NoBody)
		if err != nil {
			return err
		}
		r.Header.Set(header, tenant)
		answer, err := server.Client().Do(r)
		if err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("the server answered %s", answer.Status)
		}
		if closeErr := answer.Body.Close(); err == nil {
			err = closeErr
		}
		return err
	}
	return do, server.Close, nil
}
