package rls

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/visible"
)

// DataMigrationSQL returns what DataMigration does as SQL, for goose, golang-migrate and Atlas: put before in front of the statements that
// change rows, and after behind them. They may stand in a file several times.
//
// Between them statements run as AdminRole, or with AsOwner as the owner. The statements of before fail, so that the tool stops, where the
// login may not take the role, where policies may hide rows of some table from it, and outside of a transaction, where they would do
// nothing: goose with NO TRANSACTION, golang-migrate with x-multi-statement, Atlas with txmode none. Those of after fail if rows were
// read through a view that hides some, or the role was left. Without them the tool cannot write down the version in AdminRole; with
// AsOwner, policies are not forced on the owner any more: Check finds that.
//
// DataMigrationSQL fails when the isolation is invalid, or has no AdminRole and AsOwner is not given.
func (i Isolation) DataMigrationSQL(opts ...DataOption) (before, after string, err error) {
	m, err := i.dataMigration(opts)
	if err != nil {
		return "", "", err
	}
	switch {
	case m.asOwner:
		before, after = m.asOwnerSQL()
	case m.AdminRole == "":
		return "", "", errors.New("tenancy: a data migration in SQL needs an AdminRole, or AsOwner")
	default:
		before, after = m.asAdminSQL()
	}
	return before, after, nil
}

// The checks of the script raise insufficient_privilege, as PostgreSQL does where a policy hides something.
const raise = "RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = "

// outside is the message where SET LOCAL has had no effect.
const outside = "'tenancy: a data migration must run in a transaction, together with the SET LOCAL before it'"

func (m *dataMigration) asAdminSQL() (before, after string) {
	role, literal := sqltext.Ident(m.AdminRole), sqltext.Literal(m.AdminRole)
	// SET ROLE keeps the setting row_security, and off would refuse what a policy of the role shows.
	before = "-- What follows sees the rows of all tenants. It fails outside of a transaction.\n" +
		"SET LOCAL row_security = on;\nSET LOCAL ROLE " + role + ";\n" + block(`DECLARE
	hidden text;
BEGIN
	IF current_user <> `+literal+` THEN
		`+raise+outside+`;
	END IF;
	`+visible.Granted+`
	LIMIT 1 INTO hidden;
	IF FOUND THEN
		`+raise+`format('tenancy: role %I does not see all rows of %s: let Migrate make its policy', current_user, hidden);
	END IF;
END`)
	after = "-- What follows is bound by the policies again.\n" + block(`DECLARE
	hidden record;
BEGIN
	IF current_user <> `+literal+` THEN
		`+raise+`'tenancy: the data migration has left its role, and may have missed rows';
	END IF;
	`+visible.Touched+`
	LIMIT 1 INTO hidden;
	IF FOUND THEN
		`+raise+`format('tenancy: rows of %s were read or written with the rights of role %I, from which some are hidden',
			hidden.name, hidden.reader);
	END IF;
END`) + "RESET ROLE;\n"
	return before, after
}

func (m *dataMigration) asOwnerSQL() (before, after string) {
	var open, shut strings.Builder
	for _, table := range m.tables {
		fmt.Fprintf(&open, "ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;\n", table)
		fmt.Fprintf(&shut, "ALTER TABLE %s FORCE ROW LEVEL SECURITY;\n", table)
	}
	before = "-- What follows sees the rows of all tenants in these tables, and locks them. It fails outside of a transaction.\n" +
		"SET LOCAL tenancy.data_migration = 'as the owner';\nSET LOCAL row_security = off;\n" + block(`BEGIN
	IF coalesce(current_setting('tenancy.data_migration', true), '') <> 'as the owner' THEN
		`+raise+outside+`;
	END IF;
END`) + open.String()
	after = "-- What follows is bound by the policies again.\n" + shut.String() + "RESET row_security;\n"
	return before, after
}

// block is a statement that has semicolons within, as goose wants it.
func block(body string) string {
	return "-- +goose StatementBegin\nDO $tenancy$\n" + body + "\n$tenancy$;\n-- +goose StatementEnd\n"
}
