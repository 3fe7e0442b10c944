package tenancy

import (
	"reflect"
	"runtime"
	"strings"

	"gorm.io/gorm/clause"
)

// saveByKey lets Save update an existing row if the tenant column is a part of the primary key and the struct leaves it unset.
// GORM takes such a struct for a new row, because a part of its key is zero, and would insert it.
func (s *statement) saveByKey() {
	field := s.tenant.field
	if s.Statement == nil || field == nil || !field.PrimaryKey || len(s.Schema.PrimaryFields) < 2 || s.ReflectValue.Kind() != reflect.Struct {
		return
	}
	if _, upsert := s.Clauses["ON CONFLICT"]; upsert {
		return
	}
	for _, key := range s.Schema.PrimaryFields {
		if _, zero := key.ValueOf(s.Context, s.ReflectValue); zero != (key == field) {
			return
		}
	}
	if calledBy() == "gorm.io/gorm.(*DB).Save" {
		s.AddClause(clause.OnConflict{UpdateAll: true})
	}
}

// calledBy returns the method of *gorm.DB that a callback runs for. Save and Create look the same to the callbacks.
func calledBy() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "gorm.io/gorm.(*DB).") || !more {
			return frame.Function
		}
	}
}
