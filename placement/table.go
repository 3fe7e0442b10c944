package placement

import (
	"time"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Placement is the model of the table of placements. Give it to rls.Isolation.Migrate on the first server, or make the table with SQL.
// Tenants can read it by raw SQL, also the ids of others, and not write it; with SQL only the role that is named reads it.
type Placement struct {
	Tenant string `gorm:"primaryKey;type:text"`                // its id, as WithTenant writes it
	Server string `gorm:"type:text;not null;default:''"`       // the name of the server that the tenant lives on
	State  State  `gorm:"type:text;not null;default:'placed'"` // whether it is being moved

	// Other is the target of a move in the states Copying and Moving, and in the states Moved and Erasing the server with the rows as they were.
	Other       string `gorm:"type:text;not null;default:''"`
	Run         string `gorm:"type:text;not null;default:''"` // the run of Mover that may change the row
	Fingerprint string `gorm:"type:text;not null;default:''"` // of the rows, when they were moved

	// DatabaseID and OtherDatabaseID are the clusters and databases that Server and Other led to when the tenant was moved: no later run takes
	// another database for them. Empty means that any is taken.
	DatabaseID      string    `gorm:"type:text;not null;default:''"`
	OtherDatabaseID string    `gorm:"type:text;not null;default:''"`
	UpdatedAt       time.Time `gorm:"type:timestamptz;not null;default:now()"`
}

// Table is the name of the table.
const Table = "tenant_placements"

// TableName is Table.
func (Placement) TableName() string { return Table }

// TenantShared says that every tenant may read the table, and none write it.
func (Placement) TenantShared() {}

// State is what becomes of a tenant.
type State string

// The states. In all but Moving the tenant works.
const (
	Placed  State = "placed"
	Copying State = "copying" // lives at Server, and is being copied to Other
	Moving  State = "moving"  // is locked out while the rest is copied
	Moved   State = "moved"   // lives at Server; Other still has the rows as they were
	Erasing State = "erasing" // and they are being erased
)

// SQL makes the table in the schema public, for a database without GORM models or where tenants are not to read it. Of the roles only the
// owner may write it, and the role that Config.Catalog logs in as reads it.
func SQL(catalogRole string) string {
	return `CREATE TABLE IF NOT EXISTS public.` + Table + ` (
	tenant text PRIMARY KEY,
	server text NOT NULL DEFAULT '',
	state text NOT NULL DEFAULT 'placed',
	other text NOT NULL DEFAULT '',
	run text NOT NULL DEFAULT '',
	fingerprint text NOT NULL DEFAULT '',
	database_id text NOT NULL DEFAULT '',
	other_database_id text NOT NULL DEFAULT '',
	updated_at timestamptz NOT NULL DEFAULT now()
);
REVOKE ALL ON public.` + Table + ` FROM PUBLIC;
GRANT SELECT ON public.` + Table + ` TO ` + sqltext.Ident(catalogRole) + `;
`
}

// qualified is the name of the table in SQL, so that no search_path and no temporary table decides what it means.
func qualified(schema string) string {
	if schema == "" {
		schema = "public"
	}
	return sqltext.Ident(schema, Table)
}
