package page

import (
	"fmt"
	"strings"

	"gorm.io/gorm"
)

// operators are SQL with %s for the field and %s for the type of the value.
var operators = map[string]string{
	"eq": "%s = ?::%s", "ne": "%s <> ?::%s",
	"lt": "%s < ?::%s", "lte": "%s <= ?::%s", "gt": "%s > ?::%s", "gte": "%s >= ?::%s",
	"in":       "%s IN (?::%s)", // once for each value
	"contains": "strpos(lower(%s), lower(?::%s)) > 0",
	"starts":   "starts_with(lower(%s), lower(?::%s))",
}

// filter adds conditions, each "field:operator:value". PostgreSQL refuses a value that its type cannot hold (22P02).
func filter[T any](db *gorm.DB, fields map[string]Field[T], conditions []string) (*gorm.DB, error) {
	for _, condition := range conditions {
		name, rest, _ := strings.Cut(condition, ":")
		operator, value, ok := strings.Cut(rest, ":")
		field, known := fields[name]
		if !ok || !known {
			return nil, refuse("query.filter", "it must be field:operator:value, of a field of this list")
		}
		sql, known := operators[operator]
		if text := operator == "contains" || operator == "starts"; !known || text && field.Type != "text" {
			return nil, refuse("query.filter", "this field does not have this operator")
		}
		args := []any{value}
		if operator == "in" {
			args = nil
			for v := range strings.SplitSeq(value, ",") {
				args = append(args, v)
			}
			sql = strings.Replace(sql, "?::%s", strings.TrimSuffix(strings.Repeat("?::"+field.Type+", ", len(args)), ", "), 1)
			sql = fmt.Sprintf(sql, field.SQL)
		} else {
			sql = fmt.Sprintf(sql, field.SQL, field.Type)
		}
		db = db.Where(sql, args...)
	}
	return db, nil
}
