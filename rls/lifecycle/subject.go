package lifecycle

import (
	"slices"
	"time"
)

// Subjects exports and erases what a tenant's tables hold of one person, a data subject: the General Data Protection Regulation (EU) 2016/679
// calls it the rights of access (article 15), erasure (17) and portability (20).
//
// What is about a person is in no catalog, so Holdings declare it, table by table. The catalog is asked for what was forgotten: a foreign key
// that refers to a table with rows of the person, and belongs to no holding, is ErrUndeclared, and so is a column of a table to anonymise that
// the holding does not name. A run works within one tenant: a person known to two tenants is two subjects.
type Subjects struct {
	// Tenants says where and as who the runs work; its Skip has tables that hold nothing of the person, with the reason of each.
	Tenants Tenants

	// Holdings are the tables that hold something of a person.
	Holdings []Holding

	// Request is the application's number of the person's request. It must be set, because the record of a run does not name the person.
	Request string
}

// Holding declares rows of a table that are about a person: how they are found, and what Erase does to them. A table may have several.
type Holding struct {
	// Model is a model of GORM, whose table has the name that GORM gives by default or TableName returns. Otherwise Table names it, as
	// "schema.table".
	Model any
	Table string

	// Link says which rows.
	Link Link

	// Erasure says what becomes of them.
	Erasure Erasure

	// Omit are columns that an export leaves out: secrets, and what is about others (article 15, paragraph 4).
	Omit []string
}

// Link says which rows of a table are a person's. Key, Reference and Same make one; the zero value is refused.
type Link struct {
	kind    linkKind
	columns []string
	model   any // of Same: a model or "schema.table"
	keys    []string
}

type linkKind int

const (
	linkKey linkKind = iota + 1
	linkReference
	linkSame
)

// Key says that rows are the person's whose column has the key of the person, such as a user id or an e-mail address.
func Key(column string) Link { return Link{kind: linkKey, columns: []string{column}} }

// Reference says that rows are the person's that refer, by a foreign key with these columns, to a row of the person. The tenant column need not
// be named.
func Reference(columns ...string) Link { return Link{kind: linkReference, columns: columns} }

// Same says that rows are the person's whose column has a value that a column of a row of the person has in another table, which is a model or
// "schema.table". No foreign key is needed.
func Same(column string, table any, of string) Link {
	return Link{kind: linkSame, columns: []string{column}, model: table, keys: []string{of}}
}

// Erasure says what Erase does to rows. Delete, Anonymise, Retain and Unlink make one; the zero value is refused.
type Erasure struct {
	kind   erasureKind
	values map[string]Value
	basis  string
	until  time.Time
}

type erasureKind int

const (
	erasureDelete erasureKind = iota + 1
	erasureAnonymise
	erasureRetain
	erasureUnlink
)

func (k erasureKind) String() string {
	return [...]string{"", "delete", "anonymise", "retain", "unlink"}[k]
}

// Delete deletes the rows.
func Delete() Erasure { return Erasure{kind: erasureDelete} }

// Anonymise keeps the rows, and gives columns other values. All columns must be named, with Keep where they stay, but the primary key, the
// tenant column and generated ones, which stay: so a column that is added later is not forgotten.
func Anonymise(values map[string]Value) Erasure {
	return Erasure{kind: erasureAnonymise, values: values}
}

// Retain keeps the rows as they are, on a legal basis, such as "invoices, § 147 AO", and until a time; the zero time is without end. After that time
// a run is refused until the holding says what becomes of the rows.
func Retain(basis string, until time.Time) Erasure {
	return Erasure{kind: erasureRetain, basis: basis, until: until}
}

// Unlink is for rows that are about others and mention the person by a Reference: its columns become NULL, or those of them that can be. An
// export leaves such rows out.
func Unlink() Erasure { return Erasure{kind: erasureUnlink} }

// Value is what a column becomes. Null, Fixed, Unique and Keep make one; the zero value is refused.
type Value struct {
	kind valueKind
	text string
	of   func(id string) string
}

type valueKind int

const (
	valueNull valueKind = iota + 1
	valueFixed
	valueUnique
	valueKeep
)

// Null makes a column NULL.
func Null() Value { return Value{kind: valueNull} }

// Fixed gives a column the same value in each row, as PostgreSQL reads it.
func Fixed(text string) Value { return Value{kind: valueFixed, text: text} }

// Unique gives a column a value of its own in each row. The function gets 32 digits that are always the same for a row, and others for each row, and
// must make of them what is unique: id + "@erased.invalid".
func Unique(of func(id string) string) Value { return Value{kind: valueUnique, of: of} }

// Keep leaves a column as it is, for a reason: that it is not personal, or the legal basis.
func Keep(reason string) Value { return Value{kind: valueKeep, text: reason} }

// SubjectReport says what a run has done with the rows of a person. It does not hold the person's key.
type SubjectReport struct {
	Tenant   string          `json:"tenant"`
	Request  string          `json:"request"`
	Holdings []SubjectRows   `json:"holdings"`       // in the order of the work
	Records  int64           `json:"records"`        // of changes (rls.Audit) whose values were masked
	Kept     []SubjectColumn `json:"kept,omitempty"` // by Keep
	Left     []Left          `json:"left,omitempty"` // what it has not worked on
}

// SubjectRows is what a holding had.
type SubjectRows struct {
	Table   string     `json:"table"`
	Erasure string     `json:"erasure"`         // delete, anonymise, retain or unlink
	Rows    int64      `json:"rows"`            // of a plan, those that are there; of an erase, those that were changed by this call or are retained
	Basis   string     `json:"basis,omitempty"` // of rows that are retained
	Until   *time.Time `json:"until,omitempty"` // nil without an end, and where rows are not retained
}

// SubjectColumn is a column that an anonymised row keeps, and why.
type SubjectColumn struct {
	Table  string `json:"table"`
	Column string `json:"column"`
	Reason string `json:"reason"`
}

// Rows returns the sum of the rows.
func (r SubjectReport) Rows() int64 {
	var sum int64
	for _, h := range r.Holdings {
		sum += h.Rows
	}
	return sum
}

// owns reports whether the rows are about the person, and not only mention it.
func (e Erasure) owns() bool { return e.kind != erasureUnlink }

// personal reports whether a column of the link tells who the person is.
func (l Link) personal(column string) bool {
	return l.kind != linkReference && slices.Contains(l.columns, column)
}
