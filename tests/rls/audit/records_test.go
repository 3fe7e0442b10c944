package audit_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
)

func TestAuditRecordsWhatGORMChanges(t *testing.T) {
	d := newDatabase(t)
	a := account{ID: 1, Name: "till", Secret: "s3cret", Hash: "h4sh", Balance: 5}
	require.NoError(t, d.of(t, "acme").Create(&a).Error)
	require.NoError(t, d.of(t, "acme").Model(&a).Updates(account{Balance: 7, Hash: "other", Secret: "other"}).Error)
	require.NoError(t, d.of(t, "acme").Delete(&a).Error)
	require.Equal(t, []string{
		`acme INSERT accounts {"id": 1} from - to {"id": 1, "hash": "***", "name": "till", "balance": 5, "tenant_id": "acme"}`,
		`acme UPDATE accounts {"id": 1} from {"hash": "***", "balance": 5} to {"hash": "***", "balance": 7}`,
		`acme DELETE accounts {"id": 1} from {"id": 1, "hash": "***", "name": "till", "balance": 7, "tenant_id": "acme"} to -`,
	}, d.records(t, summary))
	var hidden int
	require.NoError(t, d.AdminDB.Raw("SELECT count(*) FROM tenancy_audit a WHERE a::text ~ 's3cret|h4sh|other'").Scan(&hidden).Error)
	require.Zero(t, hidden, "what is left out and masked")
}

func TestAuditRecordsRawSQL(t *testing.T) {
	d := newDatabase(t)
	d.run(t, "acme", "INSERT INTO accounts (id, name, balance) VALUES (1, 'a', 1), (2, 'b', 2)")
	d.run(t, "acme", "WITH moved AS (UPDATE accounts SET balance = balance + 1 WHERE id = 1 RETURNING id) DELETE FROM accounts WHERE id = 2")
	d.run(t, "acme", "UPDATE accounts SET id = 3, balance = NULL WHERE id = 1")
	require.ElementsMatch(t, []string{
		`acme INSERT accounts {"id": 1} from - to {"id": 1, "hash": "***", "name": "a", "balance": 1, "tenant_id": "acme"}`,
		`acme INSERT accounts {"id": 2} from - to {"id": 2, "hash": "***", "name": "b", "balance": 2, "tenant_id": "acme"}`,
		`acme UPDATE accounts {"id": 1} from {"balance": 1} to {"balance": 2}`,
		`acme DELETE accounts {"id": 2} from {"id": 2, "hash": "***", "name": "b", "balance": 2, "tenant_id": "acme"} to -`,
		`acme UPDATE accounts {"id": 3} from {"id": 1, "balance": 2} to {"id": 3, "balance": null}`,
	}, d.records(t, summary))
}

func TestAuditRecordsBothBranchesOfAnUpsert(t *testing.T) {
	d := newDatabase(t)
	upsert := d.of(t, "acme").Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, DoUpdates: clause.AssignmentColumns([]string{"balance"})})
	require.NoError(t, upsert.Session(&gorm.Session{}).Create(&account{ID: 1, Name: "a", Balance: 1}).Error)
	require.NoError(t, upsert.Session(&gorm.Session{}).Create([]account{{ID: 2, Name: "a", Balance: 2}, {ID: 3, Name: "b", Balance: 3}}).Error)
	require.Equal(t, []string{
		`acme INSERT accounts {"id": 1} from - to {"id": 1, "hash": "***", "name": "a", "balance": 1, "tenant_id": "acme"}`,
		`acme UPDATE accounts {"id": 1} from {"balance": 1} to {"balance": 2}`,
		`acme INSERT accounts {"id": 3} from - to {"id": 3, "hash": "***", "name": "b", "balance": 3, "tenant_id": "acme"}`,
	}, d.records(t, summary))
}

func TestAuditRecordsMerge(t *testing.T) {
	d := newDatabase(t)
	if d.version(t) < 150000 {
		return // MERGE came with PostgreSQL 15
	}
	d.run(t, "acme", "INSERT INTO accounts (id, name, balance) VALUES (1, 'a', 1), (2, 'b', 2)")
	d.run(t, "acme", `MERGE INTO accounts a USING (VALUES (1, 'a'), (2, 'b'), (3, 'c')) v (id, name) ON a.id = v.id
		WHEN MATCHED AND v.id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET balance = 9
		WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.name)`)
	require.ElementsMatch(t, []string{"DELETE 1", "UPDATE 2", "INSERT 3"},
		d.records(t, "SELECT operation || ' ' || (key ->> 'id') FROM tenancy_audit ORDER BY id OFFSET 2"))
}

func TestAuditRecordsCascades(t *testing.T) {
	d := newDatabase(t)
	d.run(t, "acme", "INSERT INTO accounts (id, name) VALUES (1, 'a')")
	d.run(t, "acme", "INSERT INTO entries (id, account_id, amount) VALUES (10, 1, 100), (11, 1, 200)")
	d.run(t, "acme", "DELETE FROM accounts")
	require.ElementsMatch(t, []string{
		`acme DELETE entries {"id": 10} from {"id": 10, "amount": 100, "tenant_id": "acme", "account_id": 1} to -`,
		`acme DELETE entries {"id": 11} from {"id": 11, "amount": 200, "tenant_id": "acme", "account_id": 1} to -`,
		`acme DELETE accounts {"id": 1} from {"id": 1, "hash": "***", "name": "a", "balance": null, "tenant_id": "acme"} to -`,
	}, d.records(t, summary)[3:])
}

func TestAuditRecordsABulkUpdate(t *testing.T) {
	const rows = 10_000
	d := newDatabase(t)
	d.run(t, "acme", fmt.Sprintf("INSERT INTO accounts (id, name, balance) SELECT n, 'account ' || n, n FROM generate_series(1, %d) n", rows))
	result := d.of(t, "acme").Model(&account{}).Where("balance > 0").Update("balance", gorm.Expr("balance * 2"))
	require.NoError(t, result.Error)
	require.EqualValues(t, rows, result.RowsAffected)
	require.Equal(t, []string{fmt.Sprintf("INSERT %d %[1]d 1", rows), fmt.Sprintf("UPDATE %d %[1]d 1", rows)}, d.records(t, `
		SELECT concat_ws(' ', operation, count(*), count(DISTINCT key), count(DISTINCT xact)) FROM tenancy_audit
		WHERE CASE operation WHEN 'UPDATE' THEN before = jsonb_build_object('balance', (key ->> 'id')::int)
			AND after = jsonb_build_object('balance', 2 * (key ->> 'id')::int) ELSE after -> 'balance' = key -> 'id' END
		GROUP BY operation ORDER BY 1`))
}

// PostgreSQL refuses COPY FROM to all roles that policies bind, the application's and its admin role among them.
func TestAuditRecordsCopy(t *testing.T) {
	d := newDatabase(t)
	require.EqualValues(t, 2, d.copy(t, "COPY accounts (tenant_id, id, name) FROM STDIN", "acme\t1\ta\nglobex\t2\tb\n"))
	require.Equal(t, []string{
		`acme INSERT accounts {"id": 1} from - to {"id": 1, "hash": "***", "name": "a", "balance": null, "tenant_id": "acme"}`,
		`globex INSERT accounts {"id": 2} from - to {"id": 2, "hash": "***", "name": "b", "balance": null, "tenant_id": "globex"}`,
	}, d.records(t, summary))
	require.Equal(t, []string{"true"}, d.records(t, "SELECT DISTINCT (login = role)::text FROM tenancy_audit WHERE login <> 'app'"))
}

func TestAuditRecordsBelongToTheTenantOfTheRow(t *testing.T) {
	d := newDatabase(t)
	d.run(t, "acme", "INSERT INTO accounts (id, name) VALUES (1, 'a')")
	admin := tenancy.Bypass(d.app, "move an account").WithContext(tenancy.WithTenant(t.Context(), "initech"))
	require.NoError(t, admin.Exec("UPDATE accounts SET tenant_id = 'globex', name = 'moved' WHERE id = 1").Error)
	require.Equal(t, []string{
		`acme UPDATE accounts {"id": 1} from {"id": 1, "hash": "***", "name": "a", "balance": null, "tenant_id": "acme"} to -`,
		`globex UPDATE accounts {"id": 1} from - to {"id": 1, "hash": "***", "name": "moved", "balance": null, "tenant_id": "globex"}`,
	}, d.records(t, summary)[1:])
	require.Empty(t, list(t, d.of(t, "initech"), summary))
	require.Len(t, list(t, d.of(t, "globex"), summary), 1)
}

func TestAuditRecordsRollBackWithTheChange(t *testing.T) {
	d := newDatabase(t)
	err := d.of(t, "acme").Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Create(&account{ID: 1, Name: "a"}).Error)
		return gorm.ErrInvalidData
	})
	require.ErrorIs(t, err, gorm.ErrInvalidData)
	require.Empty(t, d.records(t, summary))
}

func TestAuditRecordsColumnsThatComeLater(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "ALTER TABLE accounts ADD COLUMN iban text")
	d.run(t, "acme", "INSERT INTO accounts (id, name, iban) VALUES (1, 'a', 'DE00')")
	require.Equal(t, []string{"DE00"}, d.records(t, "SELECT after ->> 'iban' FROM tenancy_audit"))
}

func TestAuditRecordsWhatReplicationChanges(t *testing.T) {
	d := newDatabase(t)
	d.AsSuperuser(t, "SET session_replication_role = replica", "INSERT INTO accounts (id, tenant_id, name) VALUES (1, 'acme', 'a')")
	require.Equal(t, []string{"INSERT"}, d.records(t, "SELECT operation FROM tenancy_audit"))
}

func TestAuditRecordsAreWrittenInFull(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "ALTER TABLE accounts ADD COLUMN rate double precision, ADD COLUMN image bytea, ADD COLUMN since timestamptz, ADD COLUMN every interval")
	d.run(t, "acme", "SET LOCAL extra_float_digits = -15; SET LOCAL bytea_output = escape; SET LOCAL TimeZone = 'Asia/Tokyo'; "+
		"SET LOCAL IntervalStyle = 'sql_standard'; INSERT INTO accounts (id, name, rate, image, since, every) "+
		"VALUES (1, 'a', 1.000000001, 'x', '2026-01-01 00:00:00+00', '1 day')")
	require.Equal(t, []string{`["1.000000001", "\\x78", "2026-01-01T00:00:00+00:00", "P1D"]`},
		d.records(t, "SELECT jsonb_build_array(after ->> 'rate', after ->> 'image', after ->> 'since', after ->> 'every')::text FROM tenancy_audit"))
}

func TestAuditRefusesTruncate(t *testing.T) {
	d := newDatabase(t)
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	_, err = pool.ExecContext(t.Context(), "TRUNCATE accounts CASCADE")
	requireCode(t, err, "55000")
	require.ErrorContains(t, err, "tenancy: table accounts is audited, and TRUNCATE would leave no record of its rows: use DELETE")
	requireCode(t, d.of(t, "acme").Exec("TRUNCATE entries").Error, insufficientPrivilege)
}
