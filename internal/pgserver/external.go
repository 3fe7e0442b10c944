package pgserver

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
)

// external is the server that TENANCY_DSN names. It belongs to someone else, so it is neither started nor stopped here.
type external struct{ url *url.URL }

// errMalformed shows nothing of the DSN: in a malformed one the password may be anywhere.
var errMalformed = errors.New("TENANCY_DSN is malformed (not shown: it may hold a password): write " +
	"postgres://user:password@host:5432/database?sslmode=require, with special characters as %XX, or " +
	"host=… port=… user=… password=… dbname=…")

// externalServer reads a DSN in either form, as a URL or as key=value pairs.
func externalServer(dsn string) (instance, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errMalformed
	}
	var u *url.URL
	if isURL(dsn) {
		if u, err = url.Parse(dsn); err != nil || strings.Contains(u.Path, "@") {
			// An @ in the path is the end of a password that holds a slash. Errors would show the rest of it as the
			// name of the database.
			return nil, errMalformed
		}
	} else {
		u = pairsURL(dsn)
	}
	// A login may also be among the parameters, where it would prevail over those of the roles, or in the environment.
	u.User = url.UserPassword(cfg.User, cfg.Password)
	u.Path = "/" + cfg.Database
	parameters := u.Query()
	for _, name := range []string{"user", "password", "dbname", "database"} {
		parameters.Del(name)
	}
	if cfg.ConnectTimeout == 0 {
		parameters.Set("connect_timeout", "10")
	}
	u.RawQuery = parameters.Encode()
	return external{u}, nil
}

func isURL(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// pairsURL makes a URL from key=value pairs.
func pairsURL(dsn string) *url.URL {
	parameters := url.Values{}
	for key, value := range pairs(dsn) {
		parameters.Set(key, value)
	}
	u := &url.URL{Scheme: "postgres"}
	if host, port := parameters.Get("host"), parameters.Get("port"); host != "" && !strings.ContainsAny(host+port, "/@,") {
		if strings.Contains(host, ":") {
			u.Host = "[" + host + "]"
		} else {
			u.Host = host
		}
		if port != "" {
			u.Host = net.JoinHostPort(host, port)
		}
		parameters.Del("host")
		parameters.Del("port")
	}
	u.RawQuery = parameters.Encode()
	return u
}

// pairs reads key=value pairs that pgx has accepted. A value with spaces is in single quotes, and a backslash escapes the
// character after it.
func pairs(dsn string) map[string]string {
	found := map[string]string{}
	const space = " \t\n\r\v\f"
	for {
		key, rest, ok := strings.Cut(dsn, "=")
		if !ok {
			return found
		}
		rest = strings.TrimLeft(rest, space)
		end := space
		if strings.HasPrefix(rest, "'") {
			rest, end = rest[1:], "'"
		}
		var value strings.Builder
		i := 0
		for ; i < len(rest) && !strings.Contains(end, rest[i:i+1]); i++ {
			if rest[i] == '\\' && i+1 < len(rest) {
				i++
			}
			value.WriteByte(rest[i])
		}
		found[strings.Trim(key, space)] = value.String()
		dsn = rest[min(i+1, len(rest)):]
	}
}

func (e external) describe(string) string { return "the server of TENANCY_DSN" }
func (e external) dsn() *url.URL          { return e.url }
func (e external) owned() bool            { return false }
func (e external) logPath() string        { return "" }
func (e external) stop() error            { return nil }

func (e external) logs(context.Context) (string, error) { return "", ErrNoLogs }

func (e external) restart(context.Context) error {
	return errors.New("the server of TENANCY_DSN is not ours to restart")
}
