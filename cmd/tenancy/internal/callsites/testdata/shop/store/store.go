// Package store uses a *gorm.DB in the ways that programs do.
package store

import (
	"context"
	"net/http"
	"sync"
	"time"

	"gorm.io/gorm"
)

type User struct {
	ID   int64
	Name string
}

func (u *User) BeforeCreate(tx *gorm.DB) error {
	return tx.Model(&User{}).Where("name = ?", u.Name).Error // a hook sends nothing here
}

func (u *User) AfterCreate(tx *gorm.DB) error {
	return tx.Create(&User{}).Error // the context of the statement that calls the hook
}

var Global *gorm.DB

type Store struct {
	db    *gorm.DB
	users map[int64]User
	shops map[string]User
	lazy  sync.Map
}

type Embedding struct{ *gorm.DB }

func New(db *gorm.DB) *Store {
	Global = db
	return &Store{db: db}
}

func (s *Store) Good(ctx context.Context) error {
	tx := s.db.WithContext(ctx)
	if err := tx.First(&User{}).Error; err != nil {
		return err
	}
	return tx.Transaction(func(tx *gorm.DB) error { return tx.Save(&User{}).Error })
}

func (s *Store) Generic(ctx context.Context) ([]User, error) {
	return gorm.G[User](s.db).Find(ctx)
}

func (s *Store) Session(ctx context.Context) error {
	return s.db.Session(&gorm.Session{Context: ctx}).First(&User{}).Error
}

func (s *Store) Bad(ctx context.Context) error {
	return s.db.Where("id = ?", 1).First(&User{}).Error // want context-at-hand ctx
}

func (s *Store) Reassigned(ctx context.Context, wide bool) error {
	q := s.db.Model(&User{})
	q.Find(&[]User{}) // want context-at-hand ctx
	q = q.WithContext(ctx)
	if wide {
		q = q.Where("1 = 1")
	}
	return q.Find(&[]User{}).Error
}

func (s *Store) Sometimes(ctx context.Context, tenant bool) error {
	q := s.db
	if tenant {
		q = q.WithContext(ctx)
	}
	return q.Find(&[]User{}).Error // want context-at-hand ctx
}

func (s *Store) Looped(ctx context.Context) {
	q := s.db.WithContext(ctx)
	for range 3 {
		q.Find(&[]User{}) // want context-at-hand ctx
		q = s.db
	}
}

func (s *Store) Background() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return s.db.WithContext(ctx).First(&User{}).Error // want no-context-at-hand no-parameter
}

func (s *Store) Handler(w http.ResponseWriter, r *http.Request) {
	s.db.Find(&[]User{}) // want context-at-hand r.Context()
	go func() {
		s.db.Create(&User{}) // want context-at-hand context.WithoutCancel(r.Context())
	}()
	s.Named("x")
}

func (s *Store) Named(name string) {
	s.db.Where("name = ?", name).First(&User{}) // want no-context-at-hand no-parameter
}

func (s *Store) Transfer() error {
	return s.db.Transaction(func(tx *gorm.DB) error { // want no-context-at-hand no-parameter
		return helper(tx)
	})
}

func helper(tx *gorm.DB) error {
	tx.Exec("SELECT 1")                                     // want in-a-transaction
	return tx.Model(&User{}).Association("Friends").Clear() // want in-a-transaction
}

func (s *Store) Manual() {
	tx := s.db.Begin() // want no-context-at-hand no-parameter
	tx.Save(&User{})   // want in-a-transaction
	tx.Commit()
}

func Package() error {
	return Global.First(&User{}).Error // want no-context-at-hand package-variable
}

func (e Embedding) All() error {
	return e.Find(&[]User{}).Error // want no-context-at-hand no-parameter
}

func (s *Store) Poll() {
	ticker := time.NewTicker(time.Minute)
	for {
		select {
		case <-ticker.C:
			s.db.Delete(&User{}, 1) // want no-context-at-hand ticker
		}
	}
}

func (s *Store) Work() {
	go s.work()
}

func (s *Store) work() {
	s.db.Pluck("name", nil) // want no-context-at-hand goroutine
}

type finder interface{ Find(name string) *gorm.DB }

func (s *Store) Find(name string) *gorm.DB { return s.db.Where("name = ?", name) }

func throughInterface(f finder) {
	f.Find("x").Take(&User{}) // want no-context-at-hand no-parameter
}

func Write[T any](db *gorm.DB, fn func(tx *gorm.DB) (T, error)) (T, error) {
	tx := db.Begin() // want no-context-at-hand no-parameter
	return fn(tx)
}

func (s *Store) Generically() {
	throughInterface(s)
	_, _ = Write(s.db, func(tx *gorm.DB) (*User, error) {
		return nil, tx.Create(&User{}).Error // want in-a-transaction
	})
}

func Exported(db *gorm.DB) {
	db.Save(&User{}) // want not-followed
}

func (s *Store) Cached(ctx context.Context, id int64) User {
	if u, ok := s.users[id]; ok { // want cache s.users
		return u
	}
	key := tenantOf(ctx) + "/x"
	if u, ok := s.shops[key]; ok {
		return u
	}
	local := map[int64]User{}
	s.lazy.Store(id, local[id]) // want cache s.lazy
	var u User
	s.db.WithContext(ctx).First(&u, id)
	return u
}

func tenantOf(context.Context) string { return "" }
