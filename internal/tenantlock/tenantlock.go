// Package tenantlock names the advisory lock by which a transaction says for which tenant it works, where tenants can be moved. It is held shared,
// and keeps no other statement waiting: who moves the tenant looks who holds it.
package tenantlock

// Key is SQL for the key of a tenant's lock. The argument is SQL for the tenant's id, of type text.
func Key(tenant string) string {
	return `pg_catalog.hashtextextended(pg_catalog.concat('tenancy: works for the tenant ', ` + tenant + `), 0)`
}
