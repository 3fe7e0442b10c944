package rls_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

type (
	event struct {
		TenantID string `gorm:"primaryKey"`
		Year     int    `gorm:"primaryKey;autoIncrement:false"`
		ID       int64  `gorm:"primaryKey;autoIncrement:false"`
		NoteID   *int64
		Note     *note
		Replies  []reply `gorm:"foreignKey:EventYear,EventID;references:Year,ID"`
	}
	reply struct {
		ID        int64
		TenantID  string
		EventYear int
		EventID   int64
	}
)

var partitioned = []string{
	"CREATE TABLE events (tenant_id text, year bigint, id bigint, note_id bigint, PRIMARY KEY (tenant_id, year, id)) PARTITION BY RANGE (year)",
	"CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM (2024) TO (2025)",
	"CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM (2025) TO (2026) PARTITION BY LIST (tenant_id)",
	`CREATE TABLE "events 2025 ""rest""" PARTITION OF events_2025 DEFAULT`,
}

// partitions are the parts, each with a year of its own.
var partitions = map[string]string{"events_2024": "2024", "events_2025": "2025", `"events 2025 ""rest"""`: "2025"}

func TestMigratePartitions(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, partitioned...)
	changes := d.migrate(t, &event{}, &reply{}, &note{})
	require.Contains(t, changes, "public.events: create policy tenant_isolation")
	require.Contains(t, changes, `public.events 2025 "rest": create policy tenant_isolation`)
	snapshot := d.snapshot(t)
	require.Empty(t, d.migrate(t, &event{}, &reply{}, &note{}), "a second run")
	require.Equal(t, snapshot, d.snapshot(t))
	require.Contains(t, d.foreignKeys(t), "replies fk_events_replies FOREIGN KEY (tenant_id, event_year, event_id) REFERENCES events(tenant_id, year, id)")
	require.Contains(t, d.foreignKeys(t), "events fk_events_note FOREIGN KEY (tenant_id, note_id) REFERENCES notes(tenant_id, id)")

	d.as(t, "acme", "INSERT INTO events (year, id) VALUES (2024, 1), (2025, 2)")
	for part, year := range partitions {
		require.ErrorContains(t, d.fails(t, "globex", "SELECT FROM "+part), "permission denied")
		d.AsOwner(t, "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON "+part+" TO "+d.App.Role)
		require.NotEmpty(t, d.sees(t, "acme", "SELECT id FROM "+part))
		require.Empty(t, d.sees(t, "globex", "SELECT id FROM "+part), part)
		requireCode(t, d.fails(t, "globex", "INSERT INTO "+part+" (tenant_id, year, id) VALUES ('acme', "+year+", 3)"), insufficientPrivilege)
	}
	require.Equal(t, []string{
		`public.events 2025 "rest": revoke REFERENCES, TRIGGER, TRUNCATE from ` + d.App.Role,
		"public.events_2024: revoke REFERENCES, TRIGGER, TRUNCATE from " + d.App.Role,
		"public.events_2025: revoke REFERENCES, TRIGGER, TRUNCATE from " + d.App.Role,
	}, d.migrate(t, &event{}, &reply{}, &note{}))
}

func TestMigratePartitionMadeLater(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, partitioned...)
	d.migrate(t, &event{})
	d.AsOwner(t, "CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM (2026) TO (2027)")
	require.Equal(t, []string{
		"public.events_2026: create policy tenant_isolation",
		"public.events_2026: create policy tenant_admin",
		"public.events_2026: enable row level security",
		"public.events_2026: force row level security",
	}, d.migrate(t, &event{}))
	require.Empty(t, d.migrate(t, &event{}), "a second run")
}

func TestMigrateFindsWrongRowsInPartitions(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, partitioned...)
	d.migrate(t, &event{}, &note{})
	d.as(t, "acme", "INSERT INTO notes (id) VALUES (1)")
	d.AsOwner(t, "ALTER TABLE events DROP CONSTRAINT fk_events_note")
	d.as(t, "globex", "INSERT INTO events (year, id, note_id) VALUES (2025, 1, 1)")
	_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, &event{}, &note{})
	requireCode(t, err, "23503")
	require.ErrorContains(t, err, `SELECT * FROM "public"."events" child WHERE child."note_id" IS NOT NULL`)
}

func TestMigratePartitionedByTheModel(t *testing.T) {
	d := newDatabase(t)
	db := d.OwnerDB.Set("gorm:table_options", " PARTITION BY HASH (tenant_id)").Session(&gorm.Session{})
	type entry struct {
		TenantID string `gorm:"primaryKey"`
		ID       int64  `gorm:"primaryKey"`
	}
	_, err := d.Isolation().Migrate(t.Context(), db, &entry{})
	require.NoError(t, err)
	d.AsOwner(t, "CREATE TABLE entries_0 PARTITION OF entries FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
	result, err := d.Isolation().Migrate(t.Context(), db, &entry{})
	changes := result.Changes
	require.NoError(t, err)
	require.Contains(t, what(changes), "public.entries_0: force row level security")
}

func TestMigrateInheritingTables(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(&note{}))
	d.AsOwner(t, "CREATE TABLE old_notes () INHERITS (notes)", "GRANT SELECT ON old_notes TO "+d.App.Role,
		"INSERT INTO old_notes (id, tenant_id, body) VALUES (1, 'acme', 'of acme')")
	d.migrate(t, &note{})
	require.Empty(t, d.migrate(t, &note{}), "a second run")
	require.Equal(t, []string{"of acme"}, d.sees(t, "acme", "SELECT body FROM old_notes"))
	require.Empty(t, d.sees(t, "globex", "SELECT body FROM old_notes"))
}
