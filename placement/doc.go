// Package placement keeps on which PostgreSQL server each tenant lives in a table, tells tenancy.Config.Place, and moves tenants while they work.
//
//	places, err := placement.New(placement.Config{
//		Catalog: catalog, Servers: map[string]*sql.DB{"first": first, "second": second}, Default: "first",
//	})
//	cfg := tenancy.Config{Place: places.Place}
//
// Mover moves a tenant, as the command "tenancy tenant move" does.
package placement
