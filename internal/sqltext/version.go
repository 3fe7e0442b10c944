package sqltext

// Versions of PostgreSQL, as server_version_num reports them: 150018 is 15.18.
const (
	PostgreSQL14 = 140000 // the oldest that is supported
	PostgreSQL15 = 150000 // views with security_invoker; ON DELETE SET NULL of some columns
	PostgreSQL16 = 160000 // memberships WITH INHERIT and SET
	PostgreSQL17 = 170000 // the privilege MAINTAIN

	// Major divides a version into the major release, and the minor one as the remainder.
	Major = 10000
)
