package pgserver

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
)

// external is the server that TENANCY_DSN names. It is someone else's: it is neither started nor stopped here.
type external struct{ url *url.URL }

func externalServer(dsn string) (instance, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("TENANCY_DSN is malformed: want postgres://user:password@host:port/database")
	}
	u, err := url.Parse(dsn)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return nil, errors.New("TENANCY_DSN must be a URL: postgres://user:password@host:port/database")
	}
	// A login may hide among the parameters, where it would prevail over those of the roles, or in the environment.
	u.User = url.UserPassword(cfg.User, cfg.Password)
	u.Path = "/" + cfg.Database
	parameters := u.Query()
	for _, name := range []string{"user", "password", "dbname", "database"} {
		parameters.Del(name)
	}
	u.RawQuery = parameters.Encode()
	return external{u}, nil
}

func (e external) describe(string) string { return "TENANCY_DSN" }
func (e external) dsn() *url.URL          { return e.url }
func (e external) owned() bool            { return false }
func (e external) logPath() string        { return "" }
func (e external) stop() error            { return nil }

func (e external) logs(context.Context) (string, error) { return "", ErrNoLogs }

func (e external) restart(context.Context) error {
	return errors.New("the server that TENANCY_DSN names is not ours to restart")
}
