// Package pgserver gives tests and examples a real PostgreSQL, whatever the machine has.
//
// The first of these that works is used:
//
//  1. the server that TENANCY_DSN names, as a URL or as key=value pairs, with a login that may create roles and databases;
//  2. the binaries installed on this machine: in PATH, where pg_config says, in the places distributions use, or,
//     before all others, in TENANCY_PG_BINDIR;
//  3. a container of postgres:<major>-alpine, if a Docker daemon answers;
//  4. binaries downloaded from Maven Central and kept for the next time.
//
// TENANCY_PG=local, docker or download insists on one of the last three. TENANCY_PG_VERSION insists on a major version,
// such as 17. If what a variable asks for is not available, that is an error: no other source is tried.
//
// A server gets five roles: an owner, a worker, an application that is subject to every policy, and two that the application may take
// but does not inherit, for an admin and for lookups before the tenant is known. Each test gets a database of its own:
//
//	func TestMain(m *testing.M) { pgserver.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		d := pgserver.New(t)
//		db, err := gorm.Open(postgres.Open(d.App.DSN))
//		…
//	}
//
// A server that this package started ends with its process, even if that is killed. What a killed process left on disk, or
// at the server of TENANCY_DSN, is removed by the next Start.
package pgserver
