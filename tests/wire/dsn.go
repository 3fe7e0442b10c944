package wire

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Target is where a PostgreSQL DSN leads, in the form New takes; of several hosts, the first.
func Target(dsn string) (string, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return "", fmt.Errorf("wire: %w", err)
	}
	_, address := pgconn.NetworkAddress(cfg.Host, cfg.Port)
	return address, nil
}

// DSN rewrites a PostgreSQL DSN, as a URL or as keywords, to lead through the proxy. User, password, database and
// parameters stay; sslmode becomes disable, for what is encrypted can't be counted.
func (p *Proxy) DSN(dsn string) (string, error) {
	if _, err := pgconn.ParseConfig(dsn); err != nil {
		return "", fmt.Errorf("wire: %w", err)
	}
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		addr := p.listener.Addr().(*net.TCPAddr)
		return dsn + " host=127.0.0.1 port=" + strconv.Itoa(addr.Port) + " sslmode=disable", nil // the last one holds
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", errors.New("wire: malformed URL") // url.Parse's own error would show the password
	}
	u.Host = p.Addr()
	query := u.Query()
	query.Del("host")
	query.Del("port")
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	return u.String(), nil
}
