package lifecycle_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

type (
	user struct {
		ID       int64
		TenantID string
		Email    string `gorm:"uniqueIndex"`
		Name     string `gorm:"not null"`
		Phone    *string
	}
	order struct {
		ID       int64
		TenantID string
		UserID   int64
		User     user
		Note     *string
		Total    int64
	}
	item struct {
		ID       int64
		TenantID string
		OrderID  int64
		Order    order
		Gift     string
	}
	comment struct {
		ID       int64
		TenantID string
		AuthorID int64
		Author   user
		EditorID *int64
		Editor   *user
		ParentID *int64
		Parent   *comment
		Body     string
	}
	invoice struct {
		ID       int64
		TenantID string
		UserID   int64
		User     user
		Number   string
	}
	subscriber struct {
		ID       int64
		TenantID string
		Email    string
	}
)

var personal = []any{&user{}, &order{}, &item{}, &comment{}, &invoice{}, &subscriber{}}

const lawful = "§ 147 AO"

// holdings keep the row of a user, without what tells who it was.
func holdings() []lifecycle.Holding {
	return []lifecycle.Holding{
		{Model: &user{}, Link: lifecycle.Key("email"), Omit: []string{"phone"}, Erasure: lifecycle.Anonymise(map[string]lifecycle.Value{
			"email": lifecycle.Unique(func(id string) string { return id + "@erased.invalid" }),
			"name":  lifecycle.Fixed("erased"),
			"phone": lifecycle.Null(),
		})},
		{Model: &order{}, Link: lifecycle.Reference("user_id"), Erasure: lifecycle.Anonymise(map[string]lifecycle.Value{
			"user_id": lifecycle.Keep("refers to a row that names no person"), "total": lifecycle.Keep("not personal"), "note": lifecycle.Null(),
		})},
		{Model: &item{}, Link: lifecycle.Reference("order_id"), Erasure: lifecycle.Delete()},
		{Model: &comment{}, Link: lifecycle.Reference("author_id"), Erasure: lifecycle.Delete()},
		{Model: &comment{}, Link: lifecycle.Reference("editor_id"), Erasure: lifecycle.Unlink()},
		{Model: &comment{}, Link: lifecycle.Reference("parent_id"), Erasure: lifecycle.Unlink()},
		{Table: "public.invoices", Link: lifecycle.Reference("user_id"), Erasure: lifecycle.Retain(lawful, time.Now().AddDate(10, 0, 0))},
		{Model: &subscriber{}, Link: lifecycle.Same("email", &user{}, "email"), Erasure: lifecycle.Delete()},
	}
}

const (
	bob = "bob@example.com"
	eve = "eve@example.com"
)

// people makes Bob and Eve known to two tenants, with the same keys of rows as far as these can be.
func people(t *testing.T, audits ...rls.Audit) *testdb.Database {
	t.Helper()
	d := testdb.New(t)
	isolation := d.Isolation()
	isolation.Audits = audits
	d.Migrate(t, isolation, personal...)
	for n, tenant := range []string{testdb.Acme, testdb.Globex} {
		for m, email := range []string{bob, eve} {
			first := 100*n + 10*m + 1
			d.AsSuperuser(t, strings.NewReplacer("@t", "'"+tenant+"'", "@m", "'"+email+"'", "@1", fmt.Sprint(first), "@2", fmt.Sprint(first+1), "@o", fmt.Sprint(100*n+11-10*m)).Replace(`
				INSERT INTO users (id, tenant_id, email, name, phone) VALUES (@1, @t, @m, 'Secret Name', '555');
				INSERT INTO orders (id, tenant_id, user_id, note, total) VALUES (@1, @t, @1, 'secret note', 5), (@2, @t, @1, NULL, 6);
				INSERT INTO items (id, tenant_id, order_id, gift) VALUES (@1, @t, @1, 'secret gift'), (@2, @t, @2, 'secret gift');
				INSERT INTO invoices (id, tenant_id, user_id, number) VALUES (@1, @t, @1, 'R-@1');
				INSERT INTO subscribers (id, tenant_id, email) VALUES (@1, @t, @m), (@2, @t, 'other-@1@example.com');
				INSERT INTO comments (id, tenant_id, author_id, body) VALUES (@1, @t, @1, 'secret comment');`))
		}
		d.AsSuperuser(t, fmt.Sprintf(`UPDATE comments SET editor_id = %[1]d, parent_id = %[1]d WHERE id = %[2]d`, 100*n+1, 100*n+11),
			fmt.Sprintf(`INSERT INTO comments (id, tenant_id, author_id, parent_id, body) VALUES (%d, '%s', %[3]d, %[3]d, 'secret answer')`, 100*n+3, tenant, 100*n+1))
	}
	return d
}

func subjects(t *testing.T, d *testdb.Database) lifecycle.Subjects {
	t.Helper()
	return lifecycle.Subjects{Tenants: tenants(t, d), Holdings: holdings(), Request: "DSR-1"}
}

// rowsOf returns rows as the superuser sees them.
func rowsOf(t *testing.T, d *testdb.Database, query string) []string {
	t.Helper()
	rows := []string{}
	db := testdb.OpenPlain(t, d.SuperuserDSN(t))
	require.NoError(t, db.Raw(query).Scan(&rows).Error, query)
	return rows
}

func TestSubjectIsErasedAndProved(t *testing.T) { testdb.InBothForms(t, testSubjectIsErasedAndProved) }

func testSubjectIsErasedAndProved(t *testing.T) {
	d := people(t)
	s := subjects(t, d)
	var events []lifecycle.Event
	s.Tenants.OnEvent = func(_ context.Context, e lifecycle.Event) { events = append(events, e) }
	globex, all := checksum(t, d, testdb.Globex), checksum(t, d, testdb.Acme)

	plan, err := s.PlanErase(t.Context(), testdb.Acme, bob)
	require.NoError(t, err)
	require.Equal(t, all, checksum(t, d, testdb.Acme), "a plan changes nothing")
	require.EqualValues(t, 1+2+2+2+1+2+1+1, plan.Rows())

	s.Tenants.BatchSize = 1
	report, err := s.Erase(t.Context(), testdb.Acme, bob)
	require.NoError(t, err)
	require.Equal(t, plan.Rows()-1, report.Rows(), "an order had no note")
	require.Equal(t, globex, checksum(t, d, testdb.Globex))
	require.Len(t, report.Kept, 2)
	for _, h := range report.Holdings {
		if h.Erasure == "retain" {
			require.Equal(t, "public.invoices", h.Table)
			require.Equal(t, lawful, h.Basis)
			require.EqualValues(t, 1, h.Rows)
			require.NotNil(t, h.Until)
		}
	}

	const of = " WHERE tenant_id = 'acme' ORDER BY id"
	users := rowsOf(t, d, "SELECT concat_ws('|', id, email, name, coalesce(phone, '-')) FROM users"+of)
	require.Len(t, users, 2)
	require.Regexp(t, `^1\|[0-9a-f]{32}@erased\.invalid\|erased\|-$`, users[0])
	require.Equal(t, "11|"+eve+"|Secret Name|555", users[1])
	require.Equal(t, []string{"1 -", "2 -", "11 secret note", "12 -"}, rowsOf(t, d, "SELECT id || ' ' || coalesce(note, '-') FROM orders"+of))
	require.Equal(t, []string{"11", "12"}, rowsOf(t, d, "SELECT id::text FROM items"+of))
	require.Equal(t, []string{"1", "11"}, rowsOf(t, d, "SELECT id::text FROM invoices"+of))
	require.Equal(t, []string{"11 - -"}, rowsOf(t, d, "SELECT concat_ws(' ', id, coalesce(editor_id::text, '-'), coalesce(parent_id::text, '-')) FROM comments"+of))
	require.Equal(t, []string{"other-1@example.com", eve, "other-11@example.com"}, rowsOf(t, d, "SELECT email FROM subscribers"+of))

	again, err := s.Erase(t.Context(), testdb.Acme, bob)
	require.NoError(t, err)
	require.Zero(t, again.Rows())
	require.Len(t, events, 3)
	for _, e := range events {
		require.Equal(t, "DSR-1", e.Request)
		require.NotContains(t, fmt.Sprint(e), "bob")
	}
	require.NotContains(t, fmt.Sprint(report), "bob")
}

func TestSubjectIsDeletedAltogether(t *testing.T) {
	testdb.InBothForms(t, testSubjectIsDeletedAltogether)
}

func testSubjectIsDeletedAltogether(t *testing.T) {
	d := people(t)
	s := subjects(t, d)
	globex, eves := checksum(t, d, testdb.Globex), rowsOf(t, d, "SELECT u::text FROM users u WHERE id = 11")
	s.Holdings[0].Erasure, s.Holdings[1].Erasure = lifecycle.Delete(), lifecycle.Delete()
	_, err := s.Erase(t.Context(), testdb.Acme, bob)
	require.ErrorIs(t, err, lifecycle.ErrBeyond, "invoices stay, and refer to the user")
	require.ErrorContains(t, err, "public.invoices")
	s.Holdings[6].Erasure = lifecycle.Delete()
	report, err := s.Erase(t.Context(), testdb.Acme, bob)
	require.NoError(t, err)
	require.EqualValues(t, 1+2+2+2+1+2+1+1, report.Rows())
	require.Equal(t, globex, checksum(t, d, testdb.Globex))
	require.Equal(t, eves, rowsOf(t, d, "SELECT u::text FROM users u WHERE tenant_id = 'acme'"))
}

func TestSubjectIsExported(t *testing.T) { testdb.InBothForms(t, testSubjectIsExported) }

func testSubjectIsExported(t *testing.T) {
	d := people(t)
	s := subjects(t, d)
	var file bytes.Buffer
	m, err := s.Export(t.Context(), testdb.Acme, bob, &file)
	require.NoError(t, err)
	require.Equal(t, bob, m.Subject)
	require.EqualValues(t, 1+2+2+2+1+1, m.Rows(), "rows that only mention the person are not in it")
	text := ""
	reader := tar.NewReader(bytes.NewReader(file.Bytes()))
	for {
		header, err := reader.Next()
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
		content, err := io.ReadAll(reader)
		require.NoError(t, err)
		if header.Name != "manifest.json" {
			text += string(content)
		}
	}
	require.Contains(t, text, "secret gift")
	require.NotContains(t, text, "555", "a column to omit")
	require.NotContains(t, text, "eve")
	require.NotContains(t, text, testdb.Globex)
	require.NotContains(t, text, `"101"`)
	_, err = s.Tenants.Import(t.Context(), "new", bytes.NewReader(file.Bytes()))
	require.ErrorIs(t, err, lifecycle.ErrArchive, "it is no tenant")
}

func TestSubjectRefusesWhatIsNotDeclared(t *testing.T) {
	testdb.InBothForms(t, testSubjectRefusesWhatIsNotDeclared)
}

func testSubjectRefusesWhatIsNotDeclared(t *testing.T) {
	d := people(t)
	refused := func(want error, contains string, change func(s *lifecycle.Subjects)) {
		t.Helper()
		s := subjects(t, d)
		change(&s)
		for _, run := range []func(context.Context, string, string) (lifecycle.SubjectReport, error){s.PlanErase, s.Erase} {
			_, err := run(t.Context(), testdb.Acme, bob)
			require.Error(t, err)
			if want != nil {
				require.ErrorIs(t, err, want)
			}
			require.ErrorContains(t, err, contains)
			require.NotContains(t, err.Error(), "bob")
		}
		_, err := s.Export(t.Context(), testdb.Acme, bob, io.Discard)
		if errors.Is(want, lifecycle.ErrUndeclared) {
			require.ErrorIs(t, err, want, "an export would lack it as well")
		}
	}
	before := checksum(t, d, testdb.Acme)
	without := func(n int) func(s *lifecycle.Subjects) {
		return func(s *lifecycle.Subjects) { s.Holdings = append(s.Holdings[:n:n], s.Holdings[n+1:]...) }
	}
	value := func(n int, values map[string]lifecycle.Value) func(s *lifecycle.Subjects) {
		return func(s *lifecycle.Subjects) { s.Holdings[n].Erasure = lifecycle.Anonymise(values) }
	}
	name := func(column string, becomes lifecycle.Value) func(s *lifecycle.Subjects) {
		values := map[string]lifecycle.Value{"email": lifecycle.Fixed("x"), "name": lifecycle.Fixed("x"), "phone": lifecycle.Null()}
		values[column] = becomes
		return value(0, values)
	}
	refused(lifecycle.ErrUndeclared, "public.items refers to public.orders", without(2))
	refused(lifecycle.ErrUndeclared, "public.comments", without(4))
	refused(lifecycle.ErrUndeclared, "public.invoices", without(6))
	refused(lifecycle.ErrUndeclared, `"note"`, value(1, map[string]lifecycle.Value{"user_id": lifecycle.Keep("x"), "total": lifecycle.Keep("x")}))
	refused(nil, "cannot be NULL", name("name", lifecycle.Null()))
	refused(nil, "belongs to the key", name("id", lifecycle.Fixed("9")))
	refused(nil, "belongs to the key", name("tenant_id", lifecycle.Fixed(testdb.Globex)))
	refused(nil, "Keep needs a reason", name("name", lifecycle.Keep(" ")))
	refused(nil, "no column", name("nick", lifecycle.Null()))
	refused(nil, "has ended", func(s *lifecycle.Subjects) {
		s.Holdings[6].Erasure = lifecycle.Retain(lawful, time.Now().AddDate(0, 0, -1))
	})
	refused(nil, "legal basis", func(s *lifecycle.Subjects) { s.Holdings[6].Erasure = lifecycle.Retain("", time.Time{}) })
	refused(nil, "Request is empty", func(s *lifecycle.Subjects) { s.Request = "" })
	refused(nil, "there is no tenant table", func(s *lifecycle.Subjects) { s.Holdings[6].Table = "public.tenancy" })
	refused(lifecycle.ErrCycle, "Unlink", func(s *lifecycle.Subjects) { s.Holdings[5].Erasure = lifecycle.Delete() })
	refused(nil, "not what PostgreSQL writes", func(s *lifecycle.Subjects) { s.Holdings[0].Link = lifecycle.Key("id") })

	d.AsOwner(t, "ALTER TABLE users ADD COLUMN nick text")
	refused(lifecycle.ErrUndeclared, `"nick"`, func(*lifecycle.Subjects) {})
	d.AsOwner(t, "ALTER TABLE users DROP COLUMN nick", "CREATE TABLE badges (id int PRIMARY KEY, tenant_id text NOT NULL, user_id bigint, FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id))")
	d.AsOwner(t, isolated("badges")...)
	refused(lifecycle.ErrUndeclared, "public.badges", func(*lifecycle.Subjects) {})
	s := subjects(t, d)
	s.Tenants.Skip = map[string]string{"public.badges": "of no person"}
	report, err := s.PlanErase(t.Context(), testdb.Acme, bob)
	require.NoError(t, err)
	require.Contains(t, report.Left, lifecycle.Left{Object: "public.badges", Reason: "of no person"})
	d.AsOwner(t, "DROP TABLE badges")
	require.Equal(t, before, checksum(t, d, testdb.Acme))
}

// A cascade would delete what the law demands, or rows of another tenant.
func TestSubjectRefusesCascades(t *testing.T) { testdb.InBothForms(t, testSubjectRefusesCascades) }

func testSubjectRefusesCascades(t *testing.T) {
	d := people(t)
	d.AsOwner(t, "ALTER TABLE invoices DROP CONSTRAINT fk_invoices_user, ADD CONSTRAINT fk_invoices_user FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE")
	s := subjects(t, d)
	s.Holdings[0].Erasure = lifecycle.Delete()
	s.Holdings[1].Erasure = lifecycle.Delete()
	_, err := s.Erase(t.Context(), testdb.Acme, bob)
	require.ErrorIs(t, err, lifecycle.ErrBeyond)
	require.ErrorContains(t, err, "fk_invoices_user")

	d.AsOwner(t, "ALTER TABLE invoices DROP CONSTRAINT fk_invoices_user, ADD CONSTRAINT fk_invoices_user FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE")
	s.Holdings[6].Erasure = lifecycle.Delete()
	_, err = s.Erase(t.Context(), testdb.Acme, bob)
	require.ErrorIs(t, err, lifecycle.ErrBeyond)
	require.ErrorContains(t, err, "does not include the tenant")
}

// TestSubjectSaysWhatRemains: a trigger keeps rows, or gives them their old values.
func TestSubjectSaysWhatRemains(t *testing.T) { testdb.InBothForms(t, testSubjectSaysWhatRemains) }

func testSubjectSaysWhatRemains(t *testing.T) {
	for name, trigger := range map[string]string{
		"public.items (2)": "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER keep BEFORE DELETE ON items FOR EACH ROW EXECUTE FUNCTION keep()",
		"public.users (1)": "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.email := OLD.email; RETURN NEW; END'; CREATE TRIGGER keep BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION keep()",
		"public.subscribers (1)": `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
			INSERT INTO public.subscribers (id, tenant_id, email) VALUES (500, OLD.tenant_id, OLD.email); RETURN NEW; END$$;
			CREATE TRIGGER keep AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION keep()`, // when nothing leads to it any more
	} {
		d := people(t)
		d.AsOwner(t, trigger)
		_, err := subjects(t, d).Erase(t.Context(), testdb.Acme, bob)
		require.ErrorIs(t, err, lifecycle.ErrRemains, name)
		require.ErrorContains(t, err, name)
	}
}
