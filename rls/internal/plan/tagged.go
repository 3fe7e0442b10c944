package plan

import "github.com/gormtenancy/tenancy/rls/internal/model"

// Tagged returns the indexes that AutoMigrate would make of the tables. Those of a tenant table that are unique are the plan's.
func Tagged(tables []Table, m model.Migrator) ([]Change, error) {
	byName := map[string]Table{}
	for _, t := range tables {
		byName[t.name] = t
	}
	indexes, err := m.Tagged()
	if err != nil {
		return nil, err
	}
	c := collector{planned: map[string]*Change{}}
	for _, index := range indexes {
		t := byName[index.Table]
		c.table, c.relation = t.String(), t.Quoted()
		if unfinished, exists := t.Indexes[index.Name]; exists && !unfinished {
			continue
		}
		planUnfinished(&c, t, index.Name)
		for _, statement := range index.SQL {
			change := c.add("make index "+index.Tag, statement)
			change.early(t, Indexes, statement)
			change.Apart = statement + ";\n"
		}
	}
	return c.list(), nil
}
