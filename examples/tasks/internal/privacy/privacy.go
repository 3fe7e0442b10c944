// Package privacy answers what a person may ask of a tenant: what it holds of them, and to be forgotten.
//
// Which rows are about a person is declared in holdings.go. The run is that of lifecycle.Subjects, within the policies of the one tenant.
package privacy

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/caller"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/roles"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
)

// Config is what the package needs. All fields are required.
type Config struct {
	DB *gorm.DB // of the application's login, with the plugin
	// OwnerDSN logs in as the owner of the tables, without the plugin: the policies are forced on it, and the records of changes are its own.
	OwnerDSN  string
	Isolation rls.Isolation
	Roles     *roles.Roles
	Log       *slog.Logger
}

// Service exports and erases. It is safe for concurrent use.
type Service struct {
	Config
	owner *sql.DB
}

// New makes a Service, with a pool of its own.
func New(cfg Config) (*Service, error) {
	if cfg.DB == nil || cfg.OwnerDSN == "" || cfg.Roles == nil || cfg.Log == nil {
		return nil, errors.New("privacy: Config lacks DB, OwnerDSN, Roles or Log")
	}
	owner, err := sql.Open("pgx", cfg.OwnerDSN)
	if err != nil {
		return nil, err
	}
	owner.SetMaxOpenConns(2)
	owner.SetConnMaxIdleTime(time.Minute)
	return &Service{cfg, owner}, nil
}

// Close closes the pool. A nil Service has none.
func (s *Service) Close() error {
	if s == nil {
		return nil
	}
	return s.owner.Close()
}

// Request is the record of a run: who has asked for it, and not about which person. The audit trail has it, too.
type Request struct {
	ID        string    `gorm:"primaryKey;type:uuid"`
	TenantID  string    `gorm:"not null"`
	Kind      string    `gorm:"not null;check:privacy_requests_kind,kind IN ('export', 'erase plan', 'erase')"`
	Actor     string    `gorm:"not null"`
	CreatedAt time.Time `gorm:"not null"`
}

// TableName is the table of requests.
func (Request) TableName() string { return "privacy_requests" }

// Models are the models of the package.
func Models() []any { return []any{&Request{}} }

// Audits are the models whose changes are recorded.
func Audits() []rls.Audit { return []rls.Audit{{Model: &Request{}}, {Model: &model.Member{}}} }

// person finds the member with an address.
func (s *Service) person(ctx context.Context, email string) (m model.Member, err error) {
	return m, s.DB.WithContext(ctx).Take(&m, "email = ?", api.NormalEmail(email)).Error
}

// begin records a run, before it does anything, and returns what does it.
func (s *Service) begin(ctx context.Context, kind string) (lifecycle.Subjects, error) {
	request := Request{ID: uuid.NewString(), Kind: kind, Actor: caller.From(ctx).Subject}
	if err := s.DB.WithContext(ctx).Create(&request).Error; err != nil {
		return lifecycle.Subjects{}, err
	}
	return lifecycle.Subjects{
		Tenants:  lifecycle.Tenants{DB: s.owner, Isolation: s.Isolation, Actor: request.Actor, Logger: s.Log},
		Holdings: holdings(), Request: request.ID,
	}, nil
}

// Export writes what the tenant holds of a person to a file, which ends with its last Close. It returns gorm.ErrRecordNotFound for a person that the
// tenant does not know.
func (s *Service) Export(ctx context.Context, email string) (_ *os.File, err error) {
	person, err := s.person(ctx, email)
	if err != nil {
		return nil, err
	}
	subjects, err := s.begin(ctx, "export")
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp("", "tasks-export-*.tar") // readable by this user alone
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if err := os.Remove(file.Name()); err != nil {
		return nil, err
	}
	tenant, _ := tenancy.TenantFromContext(ctx)
	if _, err := subjects.Export(ctx, tenant, person.Email, file); err != nil {
		return nil, err
	}
	_, err = file.Seek(0, 0)
	return file, err
}

// Report says what an erasure has done, or would do.
type Report struct {
	lifecycle.SubjectReport
	Messages int64 `json:"messages"` // webhooks and remembered answers that have named the person, and are emptied
}

// Erase forgets a person. A dry run changes nothing, and fails where an erasure would be refused: who may not take the person's roles may not erase
// them, and the last owner stays. After an interruption the next call goes on.
func (s *Service) Erase(ctx context.Context, email string, dryRun bool) (report Report, err error) {
	person, err := s.person(ctx, email)
	if err != nil {
		return report, err
	}
	kind := "erase"
	if dryRun {
		kind = "erase plan"
	}
	subjects, err := s.begin(ctx, kind)
	if err != nil {
		return report, err
	}
	if person.Subject != nil {
		if err := s.Roles.RevokeAll(ctx, subjects.Tenants.Actor, *person.Subject, dryRun); err != nil {
			return report, err
		}
	}
	if report.Messages, err = s.emptyMessages(ctx, person, dryRun); err != nil {
		return report, err
	}
	tenant, _ := tenancy.TenantFromContext(ctx)
	if dryRun {
		report.SubjectReport, err = subjects.PlanErase(ctx, tenant, person.Email)
	} else {
		report.SubjectReport, err = subjects.Erase(ctx, tenant, person.Email)
	}
	return report, err
}
