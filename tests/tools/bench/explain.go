package main

import (
	"encoding/json"
	"errors"

	"gorm.io/gorm"
)

// explainer has PostgreSQL explain what a client sends.
type explainer struct {
	*client
	sql                 string // of the last SELECT that GORM has built
	vars                []any
	planning, execution []float64 // of each run, in microseconds
}

func newExplainer(c *client) (*explainer, error) {
	e := &explainer{client: c}
	return e, c.db.Callback().Query().After("gorm:query").Register("bench:sql", func(tx *gorm.DB) {
		e.sql, e.vars = tx.Statement.SQL.String(), tx.Statement.Vars
	})
}

// explain sends a tenant's query once to see its SQL, and returns a run that has it explained.
func (e *explainer) explain(s *session, q skewQuery, t skewTenant) (run func() error, err error) {
	e.sql = ""
	if err := q.of(s, t)(); err != nil {
		return nil, err
	}
	if e.sql == "" {
		return nil, errors.New("GORM has built no SELECT")
	}
	pool, err := s.db.DB()
	if err != nil {
		return nil, err
	}
	sql, vars := "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "+e.sql, append([]any(nil), e.vars...)
	return func() error {
		var document []byte
		if err := pool.QueryRowContext(s.ctx, sql, vars...).Scan(&document); err != nil {
			return err
		}
		var plans []struct {
			Planning  float64 `json:"Planning Time"`
			Execution float64 `json:"Execution Time"`
		}
		if err := json.Unmarshal(document, &plans); err != nil {
			return err
		}
		if len(plans) != 1 {
			return errors.New("EXPLAIN has another form")
		}
		e.planning, e.execution = append(e.planning, 1000*plans[0].Planning), append(e.execution, 1000*plans[0].Execution)
		return nil
	}, nil
}
